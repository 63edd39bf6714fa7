"""A coarse flow made fine: every pixel picks from the cells around it.

A gun that stands still on the screen has an edge, and behind it the hall turns. Bilinear
interpolation between cells draws the motion of the one into the other: tick by tick the gun smears
over the hall. So each pixel mixes the flows of the nine cells around it with weights of its own,
which are read from the picture (convex upsampling: Teed & Deng 2020, "RAFT"). What comes into view
beside the gun can take the flow of the gun, and is not fetched from it.

Shapes: B batch, P tokens, D width, H W picture, h w cells, s pixels per side of a cell.
"""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from worldsim.dynamics.config import FLOW_CELLS, DynamicsConfig

HIDDEN = 32
HINTS = 8  # numbers per cell that the mover adds to what is seen
UNLIKELY = 1e-3  # weight, at first, of a cell that bilinear interpolation leaves out


class Upsampling(nn.Module):
    """Starts as bilinear interpolation."""

    def __init__(self, config: DynamicsConfig) -> None:
        super().__init__()
        self.scale, side = config.max_flow, config.cell
        self.hint = nn.Linear(config.width, HINTS * FLOW_CELLS**2)
        self.read = nn.Conv2d(3 * side**2 + 2 + HINTS, HIDDEN, 3, padding=1)
        self.look = nn.Conv2d(HIDDEN, HIDDEN, 3, padding=1)
        self.write = nn.Conv2d(HIDDEN, 9 * side**2, 1)
        nn.init.zeros_(self.write.weight)
        self.write.bias = nn.Parameter((_bilinear(side) + UNLIKELY).log().flatten())

    def forward(self, flow: Tensor, picture: Tensor, told: Tensor) -> Tensor:
        """The flow of cells (B, 2, h, w) in pixels, the picture (B, 3, H, W) that it is to move,
        what the mover knows (B, P, D) -> the flow of pixels, (B, 2, H, W)."""
        rows, columns = flow.shape[-2:]
        side = picture.shape[-1] // columns
        hint = rearrange(
            self.hint(told),
            "b (h w) (c y x) -> b c (h y) (w x)",
            h=rows // FLOW_CELLS,
            y=FLOW_CELLS,
            x=FLOW_CELLS,
        )
        seen = [F.pixel_unshuffle(picture.to(hint.dtype), side), flow.to(hint.dtype) / self.scale]
        x = F.silu(self.read(torch.cat([*seen, hint], dim=1)))
        x = x + F.silu(self.look(x))
        weights = rearrange(self.write(x).float(), "b (n s) h w -> b n s h w", n=9).softmax(dim=1)
        padded = F.pad(flow, (1, 1, 1, 1), mode="replicate")
        # one cell after another: nine copies of all pixels at once would not stay in the cache
        fine = flow.new_zeros(1)
        for i, weight in enumerate(weights.unbind(dim=1)):
            down, right = divmod(i, 3)
            cells = padded[:, :, None, down : down + rows, right : right + columns]
            fine = fine + weight[:, None] * cells
        return F.pixel_shuffle(fine.flatten(1, 2), side)


def _bilinear(side: int) -> Tensor:
    """What each of the nine cells around counts for each pixel of a cell, (9, s * s)."""
    offset = (torch.arange(side) + 0.5) / side - 0.5
    line = torch.stack([(-offset).clamp(min=0), 1 - offset.abs(), offset.clamp(min=0)])  # (3, s)
    return torch.einsum("ay,bx->abyx", line, line).reshape(9, side**2)
