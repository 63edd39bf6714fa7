"""Everything that can be graded: a world, and the baselines that it has to beat.

A predictor turns windows and controls into frames, one tick at a time, so that a rollout of 1024
ticks never sits in memory. The same window may be asked for several times with different controls:
a world then absorbs its context once.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from worldsim.errors import DataError
from worldsim.evaluation.footage import Library, Window
from worldsim.evaluation.metrics import Frames

if TYPE_CHECKING:
    from worldsim.output import Output
    from worldsim.state import WorldState
    from worldsim.world import World

SAMPLE_STEPS = 2  # of the flow
Ints = npt.NDArray[np.int64]
Floats32 = npt.NDArray[np.float32]


class Predictor(Protocol):
    """What is graded."""

    @property
    def name(self) -> str: ...

    def rollout(self, windows: Sequence[Window], controls: Ints) -> Iterator[Frames]:
        """N windows and (N, ticks) controls -> per tick uint8 (N, H, W, 3)."""
        ...


class WorldPredictor:
    """A world, by samples or `exact`, its deterministic prediction; the trunk's memory is emptied
    every `forget_every` ticks, if given, and so are the frames that it keeps, if `forget_kept`; its
    slots in every tick, if `forget_slots`."""

    def __init__(
        self,
        world: "World",
        controls: Sequence[str],
        *,
        exact: bool = False,
        forget_every: int | None = None,
        forget_kept: bool = False,
        forget_slots: bool = False,
        seed: int = 0,
    ) -> None:
        self.name = "world"
        self.forget_kept, self.forget_slots = forget_kept, forget_slots
        self.world = world
        self.exact = exact
        self.forget_every = forget_every
        self.seed = seed
        self.codes = codes_of(world, controls)

    def rollout(self, windows: Sequence[Window], controls: Ints) -> Iterator[Frames]:
        for output in self.outputs(windows, controls):
            yield output.frame

    def outputs(self, windows: Sequence[Window], controls: Ints) -> Iterator["Output"]:
        """All that the world gives per tick, sound too."""
        state = self._start(windows)
        codes = self.codes[controls]
        for tick in range(codes.shape[1]):
            if self.forget_every and tick % self.forget_every == 0:
                state = state.without_memory()
                state = state.without_keyframes() if self.forget_kept else state
            if self.forget_slots:
                state = state.without_slots()
            state, out = self.world.step(
                state,
                codes[:, tick],
                flow_steps=1 if self.exact else SAMPLE_STEPS,
                noise_scale=0.0 if self.exact else None,
            )
            yield out

    def _start(self, windows: Sequence[Window]) -> "WorldState":
        """Absorb each distinct context once, then repeat its state for every row that asks."""
        distinct = {window.key: window for window in windows}
        order = {key: i for i, key in enumerate(distinct)}
        contexts = np.stack([window.frames for window in distinct.values()])
        past = [window.past_controls for window in distinct.values()]
        known = [p for p in past if p is not None]
        actions = self.codes[np.stack(known)] if len(known) == len(past) else None
        seeds = [self.seed + i for i in range(len(distinct))]
        state = self.world.reset(contexts, seed=seeds, batch=len(distinct), actions=actions)
        rows = [order[window.key] for window in windows]
        if rows == list(range(len(distinct))):
            return state
        return type(state).stack([state.select(row) for row in rows])


def codes_of(world: "World", controls: Sequence[str]) -> Ints:
    """The action code of each control name; DataError when the world binds nothing to one."""
    unbound = [name for name in controls if name not in world.bindings]
    if unbound:
        raise DataError(
            f"the world {world.name} binds no action to the recordings' control '{unbound[0]}'"
        )
    return np.array([world.bindings[name] for name in controls], dtype=np.int64)


class RealFootage:
    """The real frames themselves: what a perfect world would earn under the recorded controls."""

    name = "real"

    def rollout(self, windows: Sequence[Window], controls: Ints) -> Iterator[Frames]:
        for tick in range(1, controls.shape[1] + 1):
            yield np.stack([w.footage.frames[w.now + tick] for w in windows])


class CopyLast:
    """The last context frame, raw, for ever: persistence, and the reference of every gain."""

    name = "copy_last"

    def rollout(self, windows: Sequence[Window], controls: Ints) -> Iterator[Frames]:
        still = np.stack([window.seed_frame for window in windows])
        for _ in range(controls.shape[1]):
            yield still


class Frozen:
    """A world that has stopped: its own reconstruction of the last context frame, for ever."""

    name = "frozen"
    WARM_UP = 16  # frames that fill a streaming tokenizer's cache

    def __init__(self, reconstruct: Callable[[Frames], Frames]) -> None:
        self.reconstruct = reconstruct
        self.seen: dict[tuple[int, int], Frames] = {}

    def rollout(self, windows: Sequence[Window], controls: Ints) -> Iterator[Frames]:
        still = np.stack([self._picture(window) for window in windows])
        for _ in range(controls.shape[1]):
            yield still

    def _picture(self, window: Window) -> Frames:
        if window.key not in self.seen:
            self.seen[window.key] = self.reconstruct(window.frames[-self.WARM_UP :])[-1]
        return self.seen[window.key]


class MeanFrame:
    """The mean picture of all other recordings, for ever: what a blurred guess earns.

    Needs at least two recordings.
    """

    name = "mean_frame"

    def __init__(self, library: Library) -> None:
        self.sums = [f.frames[::4].sum(axis=0, dtype=np.float64) for f in library.footage]
        self.counts = [len(f.frames[::4]) for f in library.footage]

    def rollout(self, windows: Sequence[Window], controls: Ints) -> Iterator[Frames]:
        still = np.stack([self._mean_without(window.footage.index) for window in windows])
        for _ in range(controls.shape[1]):
            yield still

    def _mean_without(self, index: int) -> Frames:
        others = [i for i in range(len(self.sums)) if i != index]
        total = np.sum([self.sums[i] for i in others], axis=0)
        mean: Frames = np.rint(total / sum(self.counts[i] for i in others)).astype(np.uint8)
        return mean


class NearestReplay:
    """Real footage of other recordings, entered where picture and next controls match best.

    A model that has only memorized does no better than this. A candidate is the better the more of
    the next four controls it shares; among equals the one whose last frame, and the one four tics
    before, look most alike wins (mean squared error of 16x12 thumbnails). Where a recording ends,
    the search starts again from the frame last shown.
    """

    name = "nearest_replay"
    LOOK_BACK = 4  # tics
    LOOK_AHEAD = 4  # tics

    def __init__(self, library: Library) -> None:
        self.library = library
        self.thumbs: list[Floats32] = [thumbnails(f.frames) for f in library.footage]
        usable = [f.clean_starts(self.LOOK_BACK + self.LOOK_AHEAD + 1) for f in library.footage]
        moments = [starts + self.LOOK_BACK for starts in usable]
        self.owner = np.concatenate([np.full(len(m), i) for i, m in enumerate(moments)])
        self.moment: Ints = np.concatenate(moments)
        self.look = np.concatenate([self._describe(i, m) for i, m in enumerate(moments)])
        self.next = np.concatenate([self._ahead(i, m) for i, m in enumerate(moments)])
        self.ends = [_run_ends(f.resets, f.deaths) for f in library.footage]

    def rollout(self, windows: Sequence[Window], controls: Ints) -> Iterator[Frames]:
        own = [window.footage.index for window in windows]
        looks = [self._describe(w.footage.index, np.array([w.now]))[0] for w in windows]
        at = [self._find(looks[i], own[i], controls[i, : self.LOOK_AHEAD]) for i in range(len(own))]
        for tick in range(controls.shape[1]):
            for i, (footage, moment) in enumerate(at):
                if moment + 1 >= self.ends[footage][moment]:
                    look = self._describe(footage, np.array([moment]))[0]
                    ahead = controls[i, tick : tick + self.LOOK_AHEAD]
                    footage, moment = self._find(look, own[i], ahead)
                at[i] = footage, moment + 1
            yield np.stack([self.library.footage[f].frames[m] for f, m in at])

    def _describe(self, index: int, moments: Ints) -> Floats32:
        thumbs = self.thumbs[index]
        return np.concatenate([thumbs[moments], thumbs[moments - self.LOOK_BACK]], axis=1)

    def _ahead(self, index: int, moments: Ints) -> Ints:
        controls = self.library.footage[index].controls
        steps = np.arange(1, self.LOOK_AHEAD + 1)
        if controls is None:
            return np.full((len(moments), len(steps)), -1, dtype=np.int64)
        ahead: Ints = controls[moments[:, None] + steps]
        return ahead

    def _find(self, look: Floats32, own: int, ahead: Ints) -> tuple[int, int]:
        """(recording, frame) of the best entry outside of recording `own`."""
        shared = (self.next[:, : len(ahead)] == ahead).sum(axis=1)
        foreign = self.owner != own
        best = shared[foreign].max()
        rows = np.flatnonzero(foreign & (shared == best))
        error = np.mean((self.look[rows] - look) ** 2, axis=1)
        row = rows[int(np.argmin(error))]
        return int(self.owner[row]), int(self.moment[row])


def thumbnails(frames: Frames, size: tuple[int, int] = (12, 16)) -> Floats32:
    """Area-averaged thumbnails: (T, H, W, 3) -> (T, h * w * 3), values 0..255."""
    ticks, height, width, _ = frames.shape
    rows, columns = min(size[0], height), min(size[1], width)
    high, wide = height // rows, width // columns
    cut = frames[:, : rows * high, : columns * wide]
    blocks = cut.reshape(ticks, rows, high, columns, wide, 3)
    small: Floats32 = blocks.mean(axis=(2, 4), dtype=np.float32).reshape(ticks, -1)
    return small


def _run_ends(resets: npt.NDArray[np.bool_], deaths: npt.NDArray[np.bool_]) -> Ints:
    """For every frame, the first later one outside of its run (a reset, a death, or the end)."""
    ends = np.empty(len(resets), dtype=np.int64)
    end = len(resets)
    for tic in range(len(resets) - 1, -1, -1):
        ends[tic] = end
        if resets[tic] or deaths[tic]:
            end = tic
    return ends
