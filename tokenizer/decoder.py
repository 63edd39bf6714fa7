"""Latents to pixels, one frame at a time, carrying texture over from the picture before.

    flow, mask, paint = net(z, E(y), y)
    y' = (1 - w) * warp(y, g * flow) + w * sharp        w = g * mask
    sharp = paint + s * (paint - mean of 3 x 3)

as a video codec moves what it has already sent instead of sending it again. The gate g opens where
the wanted latent z is not the latent E(y) of the picture that is there: what nobody wants to
change stays as it is. Without it, a picture that was encoded and decoded over and over lost itself
in errors within half a second (docs/log.md, 2026-11-22).

What is painted under a loss is softer than what was seen. `sharpening`, s, gives the grain back; it
is no weight that is trained, but solved when training is over (training/sharpen.py).

The cache is that picture: fixed size, a value that is passed in and returned. A cleared one is
gray.

Shapes: B batch, P tokens, C channels of a token, H W picture.
"""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from worldsim.tokenizer.blocks import Conv, Residual, carry
from worldsim.tokenizer.config import TokenizerConfig

GATE = 0.02  # mean square difference of two tokens at which the gate is two thirds open


class Decoder(nn.Module):
    sharpening: Tensor

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        (fine, middle, coarse), hidden = config.decoder_widths, config.decoder_hidden
        self.config = config
        self.read = Conv(2 * config.channels, coarse, 1)
        self.coarse = Residual(coarse, hidden[2])
        self.to_middle = Conv(coarse, 4 * middle, 1)
        self.middle = Residual(middle, hidden[1])
        self.to_fine = Conv(middle, 4 * fine, 1)
        self.flow = Conv(fine, 2, 3)
        self.carry = Conv(3 * config.stem**2, fine, 1)
        self.fine = nn.Sequential(Residual(fine, hidden[0]), nn.SiLU())
        self.paint = Conv(fine, 4 * config.stem**2, 1)
        nn.init.zeros_(self.flow.weight)
        self.register_buffer("sharpening", torch.zeros(()))

    def cleared(self, batch: int) -> Tensor:
        """The picture of a decoder that has shown nothing yet, (B, 3, H, W)."""
        c = self.config
        return self.read.weight.new_zeros(batch, 3, c.height, c.width)

    def forward(self, latent: Tensor, code: Tensor, picture: Tensor) -> Tensor:
        """The wanted latent and the latent of the picture that is there, (B, P, C), and that
        picture (B, 3, H, W) -> the next picture, about [-1, 1]: clamp what is to be carried on."""
        rows, columns = self.config.grid
        gate = 1 - torch.exp((latent - code).float().square().mean(dim=-1) / -GATE)
        gate = rearrange(gate, "b (h w) -> b 1 h w", h=rows)
        both = torch.cat([latent, latent - code], dim=-1)
        x = self.read(rearrange(both, "b (h w) c -> b c h w", h=rows, w=columns))
        x = F.pixel_shuffle(self.to_middle(self.coarse(x)), 2)
        x = F.pixel_shuffle(self.to_fine(self.middle(x)), 2)
        limit = self.config.max_flow
        flow = limit * torch.tanh(self.flow(x).float() / limit)
        moved = carry(picture, flow * _resize(gate, flow))
        x = self.fine(x + self.carry(F.pixel_unshuffle(moved, self.config.stem)))
        painted = F.pixel_shuffle(self.paint(x), self.config.stem).float()
        paint, mask = painted.split([3, 1], dim=1)
        soft = F.avg_pool2d(paint, 3, stride=1, padding=1, count_include_pad=False)
        paint = paint + self.sharpening * (paint - soft)
        return torch.lerp(moved, paint, torch.sigmoid(mask) * _resize(gate, paint))


def _resize(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)
