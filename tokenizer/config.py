"""Shape of the tokenizer: how many pixels become how many numbers."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """A frame becomes a grid of tokens, each a vector of `channels` numbers."""

    height: int = 96  # pixels
    width: int = 128  # pixels
    channels: int = 48  # numbers per token
    encoder_width: int = 256  # features per token
    encoder_hidden: int = 32  # narrow middle of a block
    decoder_widths: tuple[int, int, int] = (64, 96, 192)  # features of 1/4, 1/2, 1 token
    decoder_hidden: tuple[int, int, int] = (32, 32, 64)  # narrow middle of a block
    max_flow: float = 16.0  # pixels that the picture may move in one tick
    patch: int = 16  # pixels per token side, a multiple of 4

    def __post_init__(self) -> None:
        if self.patch < 4 or self.patch % 4:
            raise ValueError(f"patch must be a multiple of 4, got {self.patch}")
        if self.height % self.patch or self.width % self.patch:
            raise ValueError(
                f"frame size must be a multiple of {self.patch}, got {self.width}x{self.height}"
            )

    @property
    def stem(self) -> int:
        """Side of the squares of pixels that the decoder paints at once."""
        return self.patch // 4

    @property
    def grid(self) -> tuple[int, int]:
        """Tokens down and across."""
        return self.height // self.patch, self.width // self.patch

    @property
    def num_tokens(self) -> int:
        rows, columns = self.grid
        return rows * columns
