"""Held-out recordings as evaluation sees them: frames, executed controls, and where one may look.

Windows never contain a reset or a death: across those the picture is not a consequence of the
controls. A long episode counts as several units of replication, one per 1000 tics, because two
views of one hall a minute apart are nearly as different as two episodes of it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from worldsim.errors import DataError
from worldsim.evaluation.metrics import Frames

UNIT_TICS = 1000
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class Footage:
    """One recording.

    `controls[t]` is the control executed to get from frame t-1 to frame t, as an index into the
    library's control names; -1 where nobody knows. `controls` is None for a plain video without
    side file.
    """

    path: Path
    index: int
    frames: Frames  # (T, H, W, 3)
    controls: Ints | None  # (T,)
    resets: Bools  # (T,)
    deaths: Bools  # (T,)
    header: Mapping[str, Any]  # what the side file says first; empty without one

    def clean_starts(self, length: int) -> Ints:
        """Every t such that frames t .. t+length-1 hold no reset (but at t), no death and no
        unknown control.
        """
        ticks = len(self.frames)
        if length > ticks:
            return np.zeros(0, dtype=np.int64)
        cut = self.resets.copy()
        if self.controls is not None:
            cut |= self.controls < 0
        # a cut at the first frame of a window is harmless, a death anywhere in it is not
        cuts = np.concatenate([[0], np.cumsum(cut)])
        deaths = np.concatenate([[0], np.cumsum(self.deaths)])
        starts = np.arange(ticks - length + 1)
        no_cut = cuts[starts + length] == cuts[np.minimum(starts + 1, ticks)]
        no_death = deaths[starts + length] == deaths[starts]
        clean: Ints = starts[no_cut & no_death]
        return clean

    def unit_of(self, tic: int) -> int:
        """A number that two windows share only when they come from the same unit of replication."""
        return self.index * 1_000_000 + tic // UNIT_TICS


@dataclass(frozen=True)
class Window:
    """`context` frames of a recording that end at frame `now`, from which a rollout starts."""

    footage: Footage
    now: int
    context: int

    @property
    def key(self) -> tuple[int, int]:
        return self.footage.index, self.now

    @property
    def unit(self) -> int:
        return self.footage.unit_of(self.now)

    @property
    def frames(self) -> Frames:
        """The context, (context, H, W, 3)."""
        return self.footage.frames[self.now - self.context + 1 : self.now + 1]

    @property
    def seed_frame(self) -> Frames:
        """The last context frame, (H, W, 3)."""
        frame: Frames = self.footage.frames[self.now]
        return frame

    @property
    def past_controls(self) -> Ints | None:
        """Controls executed between the context frames, (context - 1,)."""
        controls = self.footage.controls
        return None if controls is None else controls[self.now - self.context + 2 : self.now + 1]

    def future(self, ticks: int) -> Frames:
        """The real frames after the context, (ticks, H, W, 3)."""
        return self.footage.frames[self.now + 1 : self.now + 1 + ticks]

    def future_controls(self, ticks: int) -> Ints:
        """The controls that were really executed next, (ticks,)."""
        controls = self.footage.controls
        assert controls is not None, "callers ask only recordings that have controls"
        return controls[self.now + 1 : self.now + 1 + ticks]


@dataclass(frozen=True, kw_only=True, eq=False)
class Library:
    """All footage of one folder, with one list of control names for all of it."""

    footage: tuple[Footage, ...]
    controls: tuple[str, ...]  # empty when no recording has a side file
    frame_size: tuple[int, int]
    skipped: tuple[str, ...] = ()  # sentences: which file, and why

    @property
    def has_controls(self) -> bool:
        return bool(self.controls)

    @property
    def num_frames(self) -> int:
        return sum(len(f.frames) for f in self.footage)

    def windows(self, *, context: int, horizon: int, count: int, seed: int) -> list[Window]:
        """At most `count` windows of context + horizon clean frames, spread evenly over the units.

        Recordings without side file are used only when none has one. May be empty.
        """
        rng = np.random.default_rng(seed)
        by_unit: dict[int, list[Window]] = {}
        for footage in self.footage:
            if self.has_controls and footage.controls is None:
                continue
            for start in footage.clean_starts(context + horizon):
                window = Window(footage, int(start) + context - 1, context)
                by_unit.setdefault(window.unit, []).append(window)
        queues = [_spread(by_unit[unit], rng) for unit in sorted(by_unit)]
        mixed = [queues[i] for i in rng.permutation(len(queues))]
        return list(_round_robin(mixed, count))

    def stranger(self, footage: Footage, tic: int) -> int:
        """A number that differs between footage that may judge each other: the recording, or its
        half if it is alone.
        """
        if len(self.footage) > 1:
            return footage.index
        return int(2 * tic >= len(footage.frames))


def load_library(
    directory: Path, size: tuple[int, int], *, max_frames: int, log: Callable[[str], None]
) -> Library:
    """Read every usable recording below `directory` at `size` (H, W), evenly thinned to about
    `max_frames` frames.

    Raises DataError when nothing is usable, or when two recordings disagree about the control
    names.
    """
    from worldsim.data.scan import scan

    if not directory.is_dir():
        raise DataError(f"{directory}: no such folder; --data takes a folder of recordings")
    results = scan(directory)
    skipped = tuple(f"{r.path}: {r.reason}" for r in results if not r.ok)
    usable = sorted((r for r in results if r.ok), key=lambda r: str(r.path))
    if not usable:
        raise DataError(
            f"{directory}: no usable video in this folder; `worldsim data scan` says why"
        )
    chosen = _thin([(Path(r.path), int(r.frames or 0)) for r in usable], max_frames)
    footage: list[Footage] = []
    names: tuple[str, ...] = ()
    for path, limit in chosen:
        log(f"reading {path.name}")
        item, controls = _load(path, len(footage), size, limit)
        if controls and names and controls != names:
            raise DataError(f"{path}: its controls {controls} differ from {names} of the others")
        names = names or controls
        footage.append(item)
    return Library(footage=tuple(footage), controls=names, frame_size=size, skipped=skipped)


def _load(
    path: Path, index: int, size: tuple[int, int], limit: int
) -> tuple[Footage, tuple[str, ...]]:
    from worldsim.data.recording import Recording
    from worldsim.data.video import read_frames

    frames = read_frames(path, size=size, count=limit)
    ticks = len(frames)
    if not path.with_suffix(".jsonl").is_file():
        none = np.zeros(ticks, dtype=np.bool_)
        plain = Footage(
            path=path,
            index=index,
            frames=frames,
            controls=None,
            resets=none,
            deaths=none,
            header={},
        )
        return plain, ()
    recording = Recording.open(path)
    if len(recording.controls) < ticks:
        raise DataError(f"{path}: the side file has fewer lines than the video has frames")
    found = recording.header
    header: Mapping[str, Any] = found if isinstance(found, Mapping) else asdict(found)
    item = Footage(
        path=path,
        index=index,
        frames=frames,
        controls=np.asarray(recording.controls[:ticks], dtype=np.int64),
        resets=np.asarray(recording.resets[:ticks], dtype=np.bool_),
        deaths=np.asarray(recording.deaths[:ticks], dtype=np.bool_),
        header=header,
    )
    return item, tuple(header["controls"])


def _thin(files: Sequence[tuple[Path, int]], max_frames: int) -> list[tuple[Path, int]]:
    """Which files to read and how many frames of each, so that the total is about `max_frames`."""
    total = sum(frames for _, frames in files)
    if total <= max_frames:
        return list(files)
    # shorten long files first: a tail of a long episode adds less than another episode
    share = max(max_frames // len(files), min(max_frames, 2 * UNIT_TICS))
    short = [(path, min(frames, share)) for path, frames in files]
    keep = max(1, min(len(short), round(len(short) * max_frames / sum(n for _, n in short))))
    picks = np.unique(np.linspace(0, len(short) - 1, keep).round().astype(int))
    return [short[i] for i in picks]


def _spread(windows: list[Window], rng: np.random.Generator) -> list[Window]:
    """The windows of one unit in an order in which any prefix is spread over the unit."""
    offset = int(rng.integers(len(windows)))
    golden = max(1, round(len(windows) * 0.618))
    while np.gcd(golden, len(windows)) != 1:
        golden += 1
    return [windows[(offset + i * golden) % len(windows)] for i in range(len(windows))]


def _round_robin(queues: Sequence[Sequence[Window]], count: int) -> Iterator[Window]:
    given = 0
    for turn in range(max((len(q) for q in queues), default=0)):
        for queue in queues:
            if turn < len(queue) and given < count:
                given += 1
                yield queue[turn]
