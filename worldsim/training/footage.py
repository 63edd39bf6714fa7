"""What a run trains on: small frames of every episode, and what was done between them."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from worldsim.data.cache import build_cache
from worldsim.data.recording import Recording
from worldsim.data.scan import scan
from worldsim.errors import DataError

START_TICKS = 12  # frames of the start clip: the player is soon somewhere else
START_AT = 2  # ticks into the first episode, when the gun is up


@dataclass(frozen=True, kw_only=True)
class Footage:
    """Aligned arrays, one per episode."""

    frames: list[NDArray[np.uint8]]  # (T, H, W, 3)
    actions: list[NDArray[np.int64]]  # (T,), what led to each frame; -1 unknown
    controls: tuple[str, ...]  # names of the actions; empty without side files
    fps: float

    @property
    def num_frames(self) -> int:
        return sum(len(f) for f in self.frames)

    def start_scene(self) -> tuple[NDArray[np.uint8], list[int]]:
        """The start clip, uint8 (T, H, W, 3), and the actions (T - 1) between its frames."""
        length = START_AT + START_TICKS
        episode = next((i for i, f in enumerate(self.frames) if len(f) >= length), 0)
        part = slice(START_AT, length) if len(self.frames[episode]) >= length else slice(0, None)
        actions = [int(a) for a in self.actions[episode][part][1:]]
        return np.array(self.frames[episode][part]), actions


def read_footage(videos: Path, size: tuple[int, int], cache: Path) -> Footage:
    """Scan a folder, cache its frames at `size` (H, W) and read the side files.

    Raises DataError if no file is usable, if rates differ, or if a side file is missing.
    """
    usable = [result for result in scan(videos) if result.ok]
    if not usable:
        raise DataError(f"{videos}: no usable video; see `worldsim data scan {videos}`")
    paths = [Path(result.path) for result in usable]
    frames = build_cache(paths, size=size, directory=cache)
    recordings = [Recording.open(path) for path in paths]
    controls = tuple(recordings[0].header.controls)
    for path, recording, pictures in zip(paths, recordings, frames, strict=True):
        if tuple(recording.header.controls) != controls:
            raise DataError(f"{path}: controls differ from those of {paths[0]}")
        if len(recording.controls) != len(pictures):
            raise DataError(
                f"{path}: {len(pictures)} frames, but {len(recording.controls)} lines beside it"
            )
    return Footage(
        frames=frames,
        actions=[np.asarray(r.controls, dtype=np.int64) for r in recordings],
        controls=controls,
        fps=float(recordings[0].header.fps),
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
