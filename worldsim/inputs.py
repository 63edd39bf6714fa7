"""What callers hand to a world, checked: one sentence says what is wrong with it.

Shapes: B players, A axes, T ticks, H W picture.
"""

import operator
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from worldsim.axes import Axis, check_axes
from worldsim.model import Frames


def check_frames(frames: Frames, size: tuple[int, int], *leads: str) -> None:
    """ValueError for what is not uint8 (..., H, W, 3) of the `size` (H, W), with what one of the
    `leads` names before it, at least one of each: "BT" is (B, T, H, W, 3)."""
    as_wanted = frames.dtype == np.uint8 and frames.shape[-3:] == (*size, 3)
    if not as_wanted or frames.ndim - 3 not in map(len, leads) or 0 in frames.shape:
        height, width = size
        shapes = (f"({', '.join(lead)}, {height}, {width}, 3)" for lead in leads)
        got = f"{frames.dtype} {frames.shape}"
        raise ValueError(f"frames must be uint8 {' or '.join(shapes)}, got {got}")


def read_action(
    action: int | ArrayLike, batch: int, *, count: int, axes: Sequence[Axis], device: torch.device
) -> Tensor:
    """One action for all players, or one each -> int64 (B,) below `count`, or float (B, A) of a
    world with `axes`; ValueError for one that this world does not have."""
    if axes:
        floats = check_axes(action, batch, axes).astype(np.float32)
        return torch.as_tensor(floats, device=device)
    chosen = np.asarray(action)
    if chosen.dtype.kind not in "iu" or chosen.shape not in ((), (batch,)):
        raise ValueError(f"action must be an int or {batch} ints, got {action!r:.60}")
    values = chosen.tolist() if chosen.shape else [chosen.item()] * batch
    for value in (min(values), max(values)):
        if not 0 <= value < count:
            raise ValueError(f"action must be < {count}, got {value}")
    return torch.tensor(values, device=device)


def read_past(
    actions: ArrayLike, batch: int, ticks: int, *, axes: Sequence[Axis], device: torch.device
) -> Tensor:
    """What was done between the frames of a context (B, T, H, W, 3): (T - 1,) for all players or
    (B, T - 1), floats with an axis more in a world with `axes`; ValueError for another shape."""
    kind, row = (np.float32, (len(axes),)) if axes else (np.int64, ())
    told = torch.as_tensor(np.asarray(actions, dtype=kind), device=device)
    if told.shape not in ((ticks - 1, *row), (batch, ticks - 1, *row)):
        raise ValueError(
            f"actions must be {(ticks - 1, *row)} or {(batch, ticks - 1, *row)}, "
            f"got {tuple(told.shape)}"
        )
    return told


def read_seeds(seed: int | Sequence[int], batch: int) -> list[int]:
    """One seed for player 0, of which player i gets the one i later, or one each; ValueError for
    what is no int of 64 bits, or for another number of them."""
    try:
        first = operator.index(seed)  # type: ignore[arg-type]
        seeds = [first + i for i in range(batch)]
    except TypeError:
        seeds = [operator.index(s) for s in seed]  # type: ignore[union-attr]
    if len(seeds) != batch:
        raise ValueError(f"seed must be one int or {batch} ints, got {len(seeds)}")
    if not all(-(2**63) <= s < 2**63 for s in seeds):
        raise ValueError(f"seed must be an int of 64 bits, got {seed!r:.60}")
    return seeds
