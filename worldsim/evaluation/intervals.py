"""From measurements to graded numbers: a value, a 95 % interval, and how many units stand behind
it.

The unit of replication is the episode (or a piece of at least 1000 tics of a very long one), never
the frame: frames of one episode are not independent. Intervals are percentile bootstraps over
units; differences between two worlds are paired, because both are resampled with the same draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Graded = dict[str, float | int | str | None]

RESAMPLES = 10_000
CONFIDENCE = (2.5, 97.5)  # percentiles


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One number per window, and the unit each window comes from.

    With `below`, the measure is a ratio of sums, so that single windows with a tiny denominator do
    not dominate. Windows whose value is NaN (nothing to measure there) are left out.
    """

    above: Floats  # (N,)
    unit: npt.NDArray[np.int64]  # (N,)
    below: Floats | None = None  # (N,)

    def graded(self) -> Graded:
        """The value, its interval and the number of units."""
        top, bottom = self._per_unit()
        if len(top) == 0:
            return missing("no window could be measured")
        if bottom.sum() == 0:
            return missing("there is nothing to compare with: the denominator is 0")
        draws = _ratio(_resample(top), _resample(bottom))
        return interval(float(top.sum() / bottom.sum()), draws, len(top))

    def minus(self, other: "Measure") -> Graded:
        """The paired difference of two measures taken on the same windows."""
        mine, theirs = self._means(), other._means()
        units = sorted(set(mine) & set(theirs))
        if not units:
            return missing("the two worlds share no measured window")
        a = np.array([mine[u] for u in units])
        b = np.array([theirs[u] for u in units])
        draws = _ratio(_resample(a[:, 0]), _resample(a[:, 1])) - _ratio(
            _resample(b[:, 0]), _resample(b[:, 1])
        )
        if a[:, 1].sum() == 0 or b[:, 1].sum() == 0:
            return missing("there is nothing to compare with: a denominator is 0")
        value = a[:, 0].sum() / a[:, 1].sum() - b[:, 0].sum() / b[:, 1].sum()
        return interval(float(value), draws, len(units))

    def _per_unit(self) -> tuple[Floats, Floats]:
        means = np.array(list(self._means().values())).reshape(-1, 2)
        return means[:, 0], means[:, 1]

    def _means(self) -> dict[int, tuple[float, float]]:
        """Unit -> mean of the numerator, mean of the denominator (1 where there is none)."""
        below = np.ones_like(self.above) if self.below is None else self.below
        usable = np.isfinite(self.above) & np.isfinite(below)
        found: dict[int, tuple[float, float]] = {}
        for unit in np.unique(self.unit[usable]):
            here = usable & (self.unit == unit)
            found[int(unit)] = (float(self.above[here].mean()), float(below[here].mean()))
        return found


@dataclass(frozen=True)
class Missing:
    """A measure that cannot be taken here, and why."""

    why: str

    def graded(self) -> Graded:
        return missing(self.why)


def missing(why: str) -> Graded:
    """What stands in a report where a number is not measurable."""
    return {"value": None, "lo": None, "hi": None, "n": 0, "why": why}


def measure(values: Sequence[float] | Floats, units: Sequence[int]) -> Measure:
    """A plain mean over units."""
    return Measure(
        above=np.asarray(values, dtype=np.float64), unit=np.asarray(units, dtype=np.int64)
    )


def ratio(
    above: Sequence[float] | Floats, below: Sequence[float] | Floats, units: Sequence[int]
) -> Measure:
    """A ratio of sums over units."""
    return Measure(
        above=np.asarray(above, dtype=np.float64),
        below=np.asarray(below, dtype=np.float64),
        unit=np.asarray(units, dtype=np.int64),
    )


def interval(value: float, draws: Floats, units: int) -> Graded:
    """`value` with the interval of its bootstrap `draws`, from so many units."""
    if units < 2:
        why = "an interval needs at least two units (episodes, or 1000-tic pieces of long ones)"
        return {"value": value, "lo": None, "hi": None, "n": units, "why": why}
    low, high = np.percentile(draws, CONFIDENCE)
    return {"value": value, "lo": float(low), "hi": float(high), "n": units}


def resamples(count: int) -> Floats:
    """How often each of `count` units is drawn in each bootstrap sample, (RESAMPLES, count); the
    same at every call, which pairs them."""
    rng = np.random.default_rng(0)
    return rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES).astype(np.float64)


def _resample(values: Floats) -> Floats:
    """Sums of bootstrap draws, (U,) -> (RESAMPLES,)."""
    sums: Floats = resamples(len(values)) @ values
    return sums


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.zeros_like(above), where=below != 0)
