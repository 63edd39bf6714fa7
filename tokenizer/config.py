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
    decoder_widths: tuple[int, int, int] = (64, 96, 192)  # features at 1/4, 1/8, 1/16 of the size
    decoder_hidden: tuple[int, int, int] = (32, 32, 64)  # narrow middle of a block
    max_flow: float = 16.0  # pixels that the picture may move in one tick

    def __post_init__(self) -> None:
        if self.height % PATCH or self.width % PATCH:
            raise ValueError(
                f"frame size must be a multiple of {PATCH}, got {self.width}x{self.height}"
            )

    @property
    def grid(self) -> tuple[int, int]:
        """Tokens down and across."""
        return self.height // PATCH, self.width // PATCH

    @property
    def num_tokens(self) -> int:
        rows, columns = self.grid
        return rows * columns


PATCH = 16  # pixels per token side
STEM = 4  # of the decoder: it paints 4x4 pixels at once
