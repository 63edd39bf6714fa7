"""Continuous controls: the axes of a world whose actions are vectors of floats."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Action = int | tuple[float, ...]  # what one player does in one tick: a code, or a float per axis


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One of them, in the unit of the recordings (degrees, pixels, metres per tick, ..)."""

    name: str
    low: float  # the least and the most that the recordings have of it
    high: float

    @property
    def rest(self) -> float:
        """The value of an axis that nobody touches: zero, or what is nearest to it."""
        return min(max(0.0, self.low), self.high)

    @property
    def scale(self) -> float:
        """What counts as one; 1 for an axis that never leaves zero."""
        return max(abs(self.low), abs(self.high)) or 1.0


def at_rest(axes: Sequence[Axis]) -> tuple[float, ...]:
    """The action of somebody who does nothing."""
    return tuple(axis.rest for axis in axes)


def wrong_axis(values: Sequence[float], axes: Sequence[Axis]) -> str | None:
    """What is wrong with one action, in a sentence, or None."""
    names = ", ".join(axis.name for axis in axes)
    if len(values) != len(axes):
        return f"an action here is {len(axes)} floats ({names}), got {len(values)}"
    for axis, value in zip(axes, values, strict=True):
        if not axis.low <= value <= axis.high:  # NaN is not within either
            return f"{axis.name} must be within {axis.low:g}..{axis.high:g}, got {value:g}"
    return None


def check_axes(action: ArrayLike, batch: int, axes: Sequence[Axis]) -> NDArray[np.float64]:
    """An action for all players (A,), or one each (B, A), as (B, A).

    Raises ValueError for another shape, and for a value that the recordings do not reach.
    """
    names = ", ".join(axis.name for axis in axes)
    wanted = f"action must be floats (A,) or ({batch}, A), A = {len(axes)} ({names})"
    try:
        chosen = np.asarray(action, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{wanted}, got {action!r:.60}") from error
    if chosen.shape not in ((len(axes),), (batch, len(axes))):
        raise ValueError(f"{wanted}, got shape {chosen.shape}")
    chosen = np.broadcast_to(chosen, (batch, len(axes)))
    for row in chosen.tolist():
        wrong = wrong_axis(row, axes)
        if wrong:
            raise ValueError(wrong)
    return chosen
