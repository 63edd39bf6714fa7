"""How a picture came from the one before it, measured by block matching.

What moves goes on moving: the motion of the last tick tells how fast the player is and how far off
each wall. In latents a network has to learn to see it; between two pictures it can be computed.

Shapes: B batch, H W picture, M shifts, h w cells.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

CELLS = 2  # per token side
REACH = (3, 6)  # shifts that are tried, down and across, in pixels of the halved picture
NEARER = 1e-5  # of error per pixel: where nothing can be told, nothing has moved


def match(before: Tensor, picture: Tensor, grid: tuple[int, int]) -> Tensor:
    """How `before` has to be moved to become `picture`, (B, 3, H, W) in [-1, 1] each, with a `grid`
    of tokens down and across -> (B, 3, h, w): per cell the flow (x, then y, in pixels, as
    `carry` takes it) and the L1 error that is left."""
    gray, wanted = (halved(x) for x in (before, picture))
    block = block_of(wanted, grid)
    # one row of shifts at a time: few operations, and what is between them stays in the cache
    rows = (F.avg_pool2d((moved - wanted).abs(), block) for moved in _shifted_rows(gray, REACH))
    errors = torch.cat(list(rows), dim=1)
    return best_of(smoothed(errors))


def block_of(gray: Tensor, grid: tuple[int, int]) -> tuple[int, int]:
    """Height and width of a cell in a halved picture (.., h, w)."""
    return gray.shape[-2] // (CELLS * grid[0]), gray.shape[-1] // (CELLS * grid[1])


def smoothed(errors: Tensor) -> Tensor:
    """(B, M, h, w), each cell the mean of itself and its neighbours."""
    return F.avg_pool2d(F.pad(errors, (1, 1, 1, 1), mode="replicate"), 3, 1)


def best_of(errors: Tensor) -> Tensor:
    """L1 per cell after each shift, row by row, smoothed, (B, M, h, w) -> what `match` says of
    it."""
    (down, across), across_all = REACH, 2 * REACH[1] + 1
    y = torch.arange(-down, down + 1, device=errors.device)
    x = torch.arange(-across, across + 1, device=errors.device)
    cost = errors + NEARER * (y.abs()[:, None] + x.abs()).flatten().view(-1, 1, 1)
    best = cost.argmin(dim=1)
    row, column = best // across_all, best % across_all

    def at(dy: int, dx: int) -> Tensor:
        near = (row + dy).clamp(0, 2 * down) * across_all + (column + dx).clamp(0, 2 * across)
        return cost.gather(1, near[:, None])[:, 0]

    least = at(0, 0)
    flow_x = column - across + _between(at(0, -1), least, at(0, 1))
    flow_y = row - down + _between(at(-1, 0), least, at(1, 0))
    return torch.stack([2 * flow_x, 2 * flow_y, least], dim=1)


def told_by(flow: Tensor, motion: Tensor) -> Tensor:
    """What `match` found between two pictures, (B, 3, h, w), with the `flow` (B, 2, .., ..) by
    which the one was moved to be the other in place of the measured one: matching sees too little
    in what is soft or new."""
    led = F.adaptive_avg_pool2d(flow.to(motion.dtype), (motion.shape[-2], motion.shape[-1]))
    return torch.cat([led, motion[:, 2:]], dim=1)


def still(batch: int, grid: tuple[int, int], like: Tensor) -> Tensor:
    """What `match` says of a picture that has not moved: (B, 3, h, w)."""
    return like.new_zeros(batch, 3, CELLS * grid[0], CELLS * grid[1])


def halved(picture: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, 1, H / 2, W / 2), gray."""
    return F.avg_pool2d(picture.float().mean(1, keepdim=True), 2)


def shifted(picture: Tensor, reach: tuple[int, int]) -> Iterator[Tensor]:
    """(B, C, H, W), fetched from each shift of up to `reach` pixels down and across, row by row;
    outside the picture its border is repeated."""
    height, width = picture.shape[-2:]
    down, across = reach
    padded = F.pad(picture, (across, across, down, down), mode="replicate")
    for y in range(2 * down + 1):
        for x in range(2 * across + 1):
            yield padded[..., y : y + height, x : x + width]


def _shifted_rows(gray: Tensor, reach: tuple[int, int]) -> Iterator[Tensor]:
    """(B, 1, H, W) -> what `shifted` gives, those of the same shift down as the channels of one
    tensor."""
    height, width = gray.shape[-2:]
    down, across = reach
    padded = F.pad(gray, (across, across, down, down), mode="replicate")[:, 0]
    moved = torch.stack([padded[..., x : x + width] for x in range(2 * across + 1)], dim=1)
    for y in range(2 * down + 1):
        yield moved[..., y : y + height, :]


def _between(left: Tensor, middle: Tensor, right: Tensor) -> Tensor:
    """Where the lowest of three L1 errors in a row would be, -0.5..0.5 from the middle: such
    errors grow in straight lines, so a V is laid through them, whose tip is not below zero."""
    slope = (torch.maximum(left, right) - middle).clamp(min=1e-6)
    farthest = (middle / slope).clamp(max=0.5)
    return torch.minimum(torch.maximum(0.5 * (left - right) / slope, -farthest), farthest)
