"""How long does a world stay a world, left to itself? Needs no truth, so any controls will do.

A rollout (sampled, two flow steps) has failed when for 24 frames in a row one of these lies beyond
what 99.9 % of real frames show:

- colour: distance of the frame's histogram to the nearest of 2000 real frames of other recordings
  (mean absolute difference of cumulative histograms: the Wasserstein distance in grey levels / 255)
- sharpness: variance of the Laplacian, too low (mush) or too high (noise)
- flicker: mean absolute difference to the frame before, too high
- stillness: the same, averaged over the last 24 frames, too low although the player acts (half or
  more of the controls are not noop)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from worldsim.evaluation.footage import Footage, Library, Window
from worldsim.evaluation.intervals import Measure, measure
from worldsim.evaluation.metrics import Frames, frame_change, sharpness
from worldsim.evaluation.predictors import Predictor

SEGMENT = 24  # frames
STEP = 12  # frames between the real segments that are looked at
SURVIVAL_FRAMES = 1024
QUANTILE = 0.001
BINS = 32
BANK = 2000  # real frames that colours are compared with
JUDGED = 6000  # real frames that the colour limit is read from
ACTIVE_SHARE = 0.5  # of a segment's controls are not noop: it is expected to move

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class Health:
    """What real frames look like, and where a frame stops being one of them."""

    library: Library
    bank: Floats  # (BANK, 3 * BINS) cumulative histograms
    owner: Ints  # (BANK,) frames do not vouch for footage of their own owner
    colour_limit: float
    sharpness_limits: tuple[float, float]
    flicker_limit: float
    still_limit: float  # mean change over an active segment

    def beyond(self, frames: Frames, change: Floats, origins: Sequence[Window]) -> Bools:
        """(N, H, W, 3) and their change (N,) -> (N, 4): colour, mush, noise, flicker."""
        owner = np.array([self.library.stranger(w.footage, w.now) for w in origins])
        sharp = sharpness(frames)
        return np.stack(
            [
                nearest(histograms(frames), owner, self.bank, self.owner) > self.colour_limit,
                sharp < self.sharpness_limits[0],
                sharp > self.sharpness_limits[1],
                change > self.flicker_limit,
            ],
            axis=1,
        )


def calibrate(library: Library, noop: int | None) -> Health:
    """Limits from the clean frames of the library."""
    sharp, change, still, bank, owner = [], [], [], [], []
    stride = max(1, library.num_frames // JUDGED)
    for footage in library.footage:
        starts = footage.clean_starts(2)
        picks = starts[:: max(1, stride // 2)] + 1
        frames = footage.frames
        crisp, moved = _sharpness_and_change(frames, picks)
        sharp.append(crisp)
        change.append(moved)
        still.append(_active_changes(footage, noop))
        judged = picks[:: 2 if stride > 1 else 1]
        bank.append(histograms(frames[judged]))
        owner.append(np.array([library.stranger(footage, t) for t in judged], dtype=np.int64))
    seen, owners = np.concatenate(bank), np.concatenate(owner)
    kept = np.unique(np.linspace(0, len(seen) - 1, BANK).astype(int))
    low, high = np.quantile(np.concatenate(sharp), [QUANTILE, 1 - QUANTILE])
    distances = nearest(seen, owners, seen[kept], owners[kept])
    return Health(
        library=library,
        bank=seen[kept],
        owner=owners[kept],
        colour_limit=float(np.quantile(distances, 1 - QUANTILE)),
        sharpness_limits=(float(low), float(high)),
        flicker_limit=float(np.quantile(np.concatenate(change), 1 - QUANTILE)),
        still_limit=float(np.quantile(np.concatenate(still), QUANTILE)),
    )


def survival(
    predictor: Predictor,
    windows: Sequence[Window],
    controls: Ints,
    health: Health,
    *,
    noop: int | None,
    batch: int,
) -> Measure:
    """Share of the rollouts that reach the end of `controls` (N, ticks) without failing."""
    alive: list[bool] = []
    for first in range(0, len(windows), batch):
        group, plan = windows[first : first + batch], controls[first : first + batch]
        alive.extend(_survivors(predictor, group, plan, health, noop).tolist())
    return measure(np.array(alive, dtype=np.float64), [w.unit for w in windows])


class Watch:
    """Looks at a batch of rollouts tick by tick, every `every` ticks, until they fail."""

    def __init__(
        self,
        windows: Sequence[Window],
        plan: Ints,
        health: Health,
        noop: int | None,
        every: int = 1,
    ) -> None:
        self.failed = np.full(len(windows), np.inf)  # (N,) the tick at which each one failed
        self._windows, self._plan, self._health, self._noop = windows, plan, health, noop
        self._every, self._needed = every, SEGMENT // every
        self._streak = np.zeros((len(windows), 5), dtype=np.int64)
        # until a segment is full nothing is still
        self._moved = np.full((len(windows), self._needed), np.inf)

    @property
    def living(self) -> Bools:
        """(N,)."""
        return np.asarray(np.isinf(self.failed))

    def see(self, tick: int, before: Frames, frame: Frames) -> None:
        """The frames (N, H, W, 3) of `tick`, counted from 1, and of the tick before."""
        if tick % self._every:
            return
        change = frame_change(before, frame)
        self._moved[:, tick // self._every % self._needed] = change
        acts = is_active(self._plan[:, max(0, tick - SEGMENT) : tick], self._noop)
        still = acts & (self._moved.mean(axis=1) < self._health.still_limit)
        signs = np.column_stack([self._health.beyond(frame, change, self._windows), still])
        self._streak = np.where(signs, self._streak + 1, 0)
        over = (self._streak >= self._needed).any(axis=1)
        self.failed = np.where(over & self.living, tick, self.failed)


def _survivors(
    predictor: Predictor, group: Sequence[Window], plan: Ints, health: Health, noop: int | None
) -> Bools:
    """Which rollouts of a batch live to the end, (N,)."""
    watch = Watch(group, plan, health, noop)
    before = np.stack([w.seed_frame for w in group])
    for tick, frame in enumerate(predictor.rollout(group, plan), start=1):
        watch.see(tick, before, frame)
        if not watch.living.any():
            break
        before = frame
    return watch.living


def long_controls(library: Library, windows: Sequence[Window], ticks: int, num: int) -> Ints:
    """Controls after each window: its own recording's, continued by another's where that ends.

    Without side files: random controls out of `num`, each held for 12 tics. (N, ticks).
    """
    rng = np.random.default_rng(1024)
    tapes = [f.controls[f.controls >= 0] for f in library.footage if f.controls is not None]
    rows = []
    for window in windows:
        if not tapes:
            rows.append(np.repeat(rng.integers(num, size=ticks // 12 + 1), 12)[:ticks])
            continue
        own = window.footage.controls
        row = np.zeros(0, np.int64) if own is None else own[window.now + 1 :][:ticks]
        row = row[row >= 0]
        while len(row) < ticks:
            row = np.concatenate([row, tapes[int(rng.integers(len(tapes)))]])
        rows.append(row[:ticks])
    return np.array(rows, dtype=np.int64).reshape(len(windows), ticks)


def own_controls(windows: Sequence[Window], ticks: int) -> Ints:
    """What was really executed after each window, (N, ticks)."""
    return np.stack([w.future_controls(ticks) for w in windows])


def histograms(frames: Frames) -> Floats:
    """Cumulative histograms of every second pixel: (N, H, W, 3) -> (N, 3 * BINS), 0..1."""
    coarse = frames[:, ::2, ::2] // (256 // BINS)
    found = np.empty((len(frames), 3, BINS))
    for i, picture in enumerate(coarse):
        for channel in range(3):
            counts = np.bincount(picture[..., channel].ravel(), minlength=BINS)
            found[i, channel] = np.cumsum(counts) / counts.sum()
    return found.reshape(len(frames), 3 * BINS)


def nearest(histogram: Floats, owner: Ints, bank: Floats, bank_owner: Ints) -> Floats:
    """Distance of each row to the nearest one in the bank of another owner: (N,)."""
    found = np.empty(len(histogram))
    for own in np.unique(owner):
        foreign = bank[bank_owner != own]
        candidates = foreign if len(foreign) else bank
        for i in np.flatnonzero(owner == own):
            found[i] = np.abs(candidates - histogram[i]).mean(axis=1).min()
    return found


def is_active(controls: Ints, noop: int | None) -> Bools:
    """Whether the player mostly acts: (N, ticks) -> (N,)."""
    if noop is None:
        return np.ones(len(controls), dtype=np.bool_)
    return np.asarray((controls != noop).mean(axis=1) >= ACTIVE_SHARE)


def _active_changes(footage: Footage, noop: int | None) -> Floats:
    """Mean change over the real segments in which the player acts."""
    starts = footage.clean_starts(SEGMENT + 1)[::STEP]
    found = []
    for start in starts.tolist():
        span = slice(start + 1, start + 1 + SEGMENT)
        if footage.controls is None or is_active(footage.controls[None, span], noop)[0]:
            # every second pair of neighbours: half of the work, the same mean
            ticks = np.arange(start + 1, start + 1 + SEGMENT, 2)
            pairs = frame_change(footage.frames[ticks - 1], footage.frames[ticks])
            found.append(float(pairs.mean()))
    return np.array(found)


def _sharpness_and_change(frames: Frames, picks: Ints) -> tuple[Floats, Floats]:
    """Of frames `picks` (none of them the first), a few at a time: as floats they are large."""
    groups = np.array_split(picks, max(1, len(picks) // 32))
    sharp = [sharpness(frames[group]) for group in groups]
    change = [frame_change(frames[group - 1], frames[group]) for group in groups]
    return np.concatenate(sharp), np.concatenate(change)
