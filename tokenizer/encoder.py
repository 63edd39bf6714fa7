"""Pixels to latents: one frame in, one grid of tokens out.

The encoder looks at one frame only. A latent is then absolute: it does not depend on how the
world came to show this frame, so a picture can start a world and a rewind needs no history.
Time is in the decoder, which carries texture from frame to frame.

It is small, because it runs in every tick of play: the head predicts the next latent from the
latent of the moved picture (docs/decisions/0004).
"""

from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from worldsim.tokenizer.blocks import Conv, Residual
from worldsim.tokenizer.config import TokenizerConfig


class Encoder(nn.Module):
    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        width, hidden = config.encoder_width, config.encoder_hidden
        self.channels = config.channels
        self.layers = nn.Sequential(
            nn.PixelUnshuffle(config.patch),
            Conv(3 * config.patch**2, width, 1),
            Residual(width, hidden),
            Residual(width, hidden),
            nn.SiLU(),
            Conv(width, config.channels, 1),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> latents (B, P, C), each token of unit root mean square.

        The fixed length gives noise the same meaning everywhere and keeps a latent from being
        scaled down to nothing.
        """
        tokens = rearrange(self.layers(pixels), "b c h w -> b (h w) c")
        return F.rms_norm(tokens.float(), (self.channels,))
