"""What a run trains on: small frames of every episode at one rate, and what was done between them.

videos -> `look` (what can be used) -> `pick_size`, `pick_rate` -> `read_footage` (pictures) ->
a source of actions, which fills in `actions` and `controls` (worldsim/training/labels.py)
"""

import hashlib
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from worldsim.axes import Axis
from worldsim.data.cache import Cached, FrameCache
from worldsim.data.scan import ScanResult, scan
from worldsim.errors import DataError
from worldsim.training.say import say

START_TICKS = 12  # frames of the start clip: the player is soon somewhere else
START_AT = 2  # ticks into the first episode, when the gun is up
MAX_RATE = 40.0  # Hz; faster video is halved until a laptop can play it
MIN_SIDE = 2  # tokens


@dataclass(frozen=True, kw_only=True)
class Footage:
    """Aligned arrays, one per episode."""

    paths: list[Path]  # the videos
    names: list[str]  # of what is in them: equal names, equal frames
    frames: list[NDArray[np.uint8]]  # (T, H, W, 3)
    source: list[NDArray[np.int64]]  # (T,), index in the video of each frame
    actions: list[
        NDArray[Any]
    ]  # what led to each frame: int (T,), -1 unknown, or float (T, A), NaN
    controls: tuple[str, ...] = ()  # names of the actions
    axes: tuple[Axis, ...] = ()  # or of what they are vectors of
    fps: float

    @property
    def num_frames(self) -> int:
        return sum(len(f) for f in self.frames)

    @property
    def fingerprint(self) -> str:
        """Says which frames, in which order."""
        return hashlib.sha256(" ".join(self.names).encode()).hexdigest()

    def start_scene(self) -> tuple[NDArray[np.uint8], list[int | list[float]]]:
        """The start clip, uint8 (T, H, W, 3), and the actions (T - 1) between its frames."""
        length = START_AT + START_TICKS
        episode = next((i for i, f in enumerate(self.frames) if len(f) >= length), 0)
        part = slice(START_AT, length) if len(self.frames[episode]) >= length else slice(0, None)
        return np.array(self.frames[episode][part]), self.actions[episode][part][1:].tolist()


def look(videos: Path) -> list[ScanResult]:
    """The files of a folder that can be used; says of every other one why not.

    Raises DataError if there is none.
    """
    results = scan(videos)
    usable = [result for result in results if result.ok]
    for result in results:
        if not result.ok:
            say(f"skipped: {result.path}: {result.reason}")
    if not usable:
        raise DataError(f"{videos}: no usable video; see `worldsim data scan {videos}`")
    return usable


def pick_size(found: Sequence[ScanResult], num_tokens: int, patch: int = 16) -> tuple[int, int]:
    """(H, W) in pixels: of the middle shape of the footage, and of about `num_tokens` tokens, each
    of `patch` x `patch` pixels."""
    shapes = sorted((w / h, _seconds(r)) for r in found for h, w in [r.size or (1, 1)])
    seconds = np.cumsum([length for _, length in shapes])
    wanted, _ = shapes[int(np.searchsorted(seconds, seconds[-1] / 2))]

    def cost(grid: tuple[int, int]) -> float:
        rows, columns = grid
        shape = abs(math.log(columns / rows / wanted))
        return shape + 0.5 * abs(math.log(rows * columns / num_tokens))

    sides = range(MIN_SIDE, num_tokens // MIN_SIDE + 1)
    rows, columns = min(((r, c) for r in sides for c in sides), key=cost)
    return rows * patch, columns * patch


def pick_rate(found: Sequence[ScanResult]) -> float:
    """Frames per second: what most footage has, halved while it is above MAX_RATE."""
    seconds: dict[float, float] = defaultdict(float)
    for result in found:
        seconds[_tidy(result.fps or 0.0)] += _seconds(result)
    rate = max(seconds, key=lambda fps: seconds[fps])
    while rate > MAX_RATE:
        rate /= 2
    return rate


def read_footage(
    found: Sequence[ScanResult], size: tuple[int, int], fps: float, cache: Path, *, min_frames: int
) -> Footage:
    """Frames of all videos at `size` (H, W) and `fps`, their actions unknown.

    A file that cannot be read to its end is skipped, and said so. Raises DataError if none can be,
    or if none has `min_frames` frames.
    """
    store = FrameCache(cache)
    paths: list[Path] = []
    cached: list[Cached] = []
    for done, result in enumerate(found, start=1):
        if len(found) > 1:
            say(f"reading {done} of {len(found)}: {result.path}")
        try:
            cached.append(store.get(Path(result.path), size, fps))
            paths.append(Path(result.path))
        except DataError as error:  # the scan looks at the beginning only
            say(f"skipped: {error}")
    longest = max((len(video.frames) for video in cached), default=0)
    if longest < min_frames:
        raise DataError(
            f"the longest video has {longest} frames at {fps:g} Hz, training needs {min_frames}"
        )
    return Footage(
        paths=paths,
        names=[video.name for video in cached],
        frames=[video.frames for video in cached],
        source=[video.source for video in cached],
        actions=[np.full(len(video.frames), -1, dtype=np.int64) for video in cached],
        fps=fps,
    )


def write_start(path: Path, frames: NDArray[np.uint8], fps: float) -> None:
    """Frames (T, H, W, 3) as a nearly lossless clip."""
    _, height, width, _ = frames.shape
    with av.open(str(path), "w") as container:
        rate = Fraction(fps).limit_denominator(1000)
        stream = container.add_stream("libx264", rate=rate, options={"crf": "8"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv444p"
        for picture in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _seconds(result: ScanResult) -> float:
    return (result.frames or 0) / (result.fps or 1.0)


def _tidy(fps: float) -> float:
    """A container's average, without what rounding its time stamps did to it."""
    return float(round(fps)) if abs(fps - round(fps)) < 5e-4 * fps else round(fps, 3)
