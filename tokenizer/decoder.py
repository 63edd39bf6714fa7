"""Latents to pixels, one frame at a time, carrying texture over from the frame before.

    flow, mask, paint = net(z_t, z_{t-1}, y_{t-1})
    y_t = mask * warp(y_{t-1}, flow) + (1 - mask) * paint

as a video codec moves what it has already sent instead of sending it again. The cache is the
last picture and the last latent: fixed size, a value that is passed in and returned. A cleared
cache (all zeros) makes the decoder paint everything from z_t.

Shapes: B batch, P tokens, C channels of a token, H W picture.
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from worldsim.tokenizer.blocks import Conv, Residual, carry
from worldsim.tokenizer.config import STEM, TokenizerConfig


@dataclass(frozen=True)
class DecoderCache:
    """What the decoder remembers of the last tick."""

    picture: Tensor  # (B, 3, H, W), [-1, 1]; zeros when cleared
    latent: Tensor  # (B, P, C); zeros when cleared


class Decoder(nn.Module):
    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        (fine, middle, coarse), hidden = config.decoder_widths, config.hidden
        self.config = config
        self.read = Conv(2 * config.channels, coarse, 1)
        self.coarse = Residual(coarse, hidden[2])
        self.to_middle = Conv(coarse, 4 * middle, 1)
        self.middle = Residual(middle, hidden[1])
        self.to_fine = Conv(middle, 4 * fine, 1)
        self.flow = Conv(fine, 2, 3)
        self.carry = Conv(3 * STEM * STEM, fine, 1)
        self.fine = nn.Sequential(Residual(fine, hidden[0]), nn.SiLU())
        self.paint = Conv(fine, 4 * STEM * STEM, 1)
        nn.init.zeros_(self.flow.weight)

    def empty_cache(self, batch: int) -> DecoderCache:
        """The cache of a decoder that has shown nothing yet."""
        c = self.config
        zeros = self.read.weight.new_zeros
        return DecoderCache(
            picture=zeros(batch, 3, c.height, c.width),
            latent=zeros(batch, c.num_tokens, c.channels),
        )

    def step(self, latent: Tensor, cache: DecoderCache) -> tuple[Tensor, DecoderCache]:
        """(B, P, C), cache -> pixels (B, 3, H, W) in [-1, 1], next cache."""
        rows, columns = self.config.grid
        both = torch.cat([latent, cache.latent], dim=-1)
        x = self.read(rearrange(both, "b (h w) c -> b c h w", h=rows, w=columns))
        x = F.pixel_shuffle(self.to_middle(self.coarse(x)), 2)
        x = F.pixel_shuffle(self.to_fine(self.middle(x)), 2)
        limit = self.config.max_flow
        moved = carry(cache.picture, limit * torch.tanh(self.flow(x).float() / limit))
        x = self.fine(x + self.carry(F.pixel_unshuffle(moved, STEM)))
        paint, mask = F.pixel_shuffle(self.paint(x), STEM).float().split([3, 1], dim=1)
        mask = torch.sigmoid(mask)
        pixels = mask * moved + (1 - mask) * paint
        return pixels, DecoderCache(picture=pixels.clamp(-1, 1), latent=latent)

    def forward(self, latents: Tensor, cache: DecoderCache) -> tuple[Tensor, DecoderCache]:
        """(B, T, P, C), cache -> pixels (B, T, 3, H, W), cache after the last frame."""
        frames = []
        for latent in latents.unbind(dim=1):
            pixels, cache = self.step(latent, cache)
            frames.append(pixels)
        return torch.stack(frames, dim=1), cache
