"""Moving by whole pixels, so that nothing blurs.

A picture that is moved by 3.7 pixels has to be interpolated, and its finest grain is lost; after a
second of turning the floor is a smear, or, under kernels that sharpen, ripples. So a sample moves
each pixel by 3 or by 4, chosen so that the mean over ticks is right: a number that changes with the
tick, the same for all pixels, is added before rounding. Neighbours then jump together, and over N
ticks of the same flow the error stays a pixel or two, since the numbers, multiples of an irrational
one without their whole part, are spread as evenly as can be (Weyl 1916; Kuipers and Niederreiter
1974, "Uniform distribution of sequences", chapter 2.3).

The mean, which is compared with real frames pixel by pixel, is interpolated.

Shapes: B batch, H W picture.
"""

import torch
from torch import Tensor

STEPS = ((5**0.5 - 1) / 2, 2**0.5 - 1)  # across and down: those that fractions fit worst


def dither(tick: Tensor) -> Tensor:
    """int (B,) -> (B, 3): what to add across and down, -0.5..0.5, and 1, for whole pixels."""
    steps = torch.tensor(STEPS, dtype=torch.float64, device=tick.device)
    offset = (0.5 + tick.double()[:, None] * steps) % 1 - 0.5
    return torch.cat([offset, torch.ones_like(offset[:, :1])], dim=1).float()


def no_dither(batch: int, like: Tensor) -> Tensor:
    """(B, 3): leaves parts of pixels as they are."""
    return like.new_zeros(batch, 3)


def in_whole_pixels(flow: Tensor, dither: Tensor) -> Tensor:
    """(B, 2, H, W) and what `dither` or `no_dither` says -> the flow by which to move."""
    offset, whole = dither[:, :2, None, None], dither[:, 2:, None, None]
    return torch.lerp(flow, (flow + offset).round(), whole)
