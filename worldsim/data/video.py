"""Frames out of any video file that PyAV reads, at the size that a world needs.

`frame_to_size` is the one way pictures become smaller here: by area averaging, whether a frame
comes from a file or straight from a game. The aspect ratio of the source is not kept.
"""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from numpy.typing import NDArray

from worldsim.errors import DataError

# what PyAV raises over the bytes of a file
UNREADABLE = (av.FFmpegError, OSError, ValueError)


def open_video(path: str | Path) -> InputContainer:
    """A file to read, as a context; raises one of UNREADABLE. Its title and the like may be in any
    encoding: pictures are not worse for that."""
    return av.open(str(path), metadata_errors="replace")


def frame_to_size(frames: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """uint8 (..., H, W, 3) -> uint8 (..., h, w, 3) for `size` = (h, w), by area averaging.

    An output pixel is the mean of the source area under it, borders counted by their share, and
    rounded to the nearest integer. A frame that has the size already comes back as it is.
    """
    if frames.shape[-3:-1] == size:
        return frames
    # Rows first: the second pass then works on fewer numbers, and on whole rows in memory.
    rows = shrink(frames.astype(np.float32), size[0], axis=frames.ndim - 3)
    both = shrink(rows, size[1], axis=frames.ndim - 2)
    return np.rint(both).astype(np.uint8)


def shrink(values: NDArray[np.float32], length: int, *, axis: int) -> NDArray[np.float32]:
    """Area averaging along one axis, to `length` entries."""
    index, weight = taps(values.shape[axis], length)
    shape = [1] * values.ndim
    shape[axis] = length
    total: NDArray[np.float32] = np.take(values, index[0], axis=axis) * weight[0].reshape(shape)
    for i, w in zip(index[1:], weight[1:], strict=True):
        total += np.take(values, i, axis=axis) * w.reshape(shape)
    return total


@lru_cache(maxsize=32)
def taps(source: int, target: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Which source entries lie under each target entry, and their shares; both (taps, target)."""
    edges = np.arange(target + 1) * (source / target)
    first = np.floor(edges[:-1] + 1e-9).astype(np.intp)
    count = int((np.ceil(edges[1:] - 1e-9).astype(np.intp) - first).max())
    index = first[None] + np.arange(count)[:, None]
    overlap = np.minimum(index + 1, edges[1:]) - np.maximum(index, edges[:-1])
    weight = np.clip(overlap, 0.0, None)
    weight /= weight.sum(axis=0)
    return np.minimum(index, source - 1), weight.astype(np.float32)


def iterate_frames(
    path: str | Path, size: tuple[int, int] | None = None, *, start: int = 0
) -> Iterator[NDArray[np.uint8]]:
    """Every frame of a video from index `start` on, uint8 (H, W, 3), resized to `size` = (H, W).

    Frames are counted in display order; time stamps are not looked at. Raises DataError if the
    file cannot be opened, holds no video, or stops being readable on the way.
    """
    for number, (_, picture) in enumerate(iterate_timed(path)):
        if number >= start:
            yield picture if size is None else frame_to_size(picture, size)


def iterate_timed(path: str | Path) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Every frame of a video, the right way up, with its time in seconds, which only rises.

    Raises DataError as `iterate_frames` does.
    """
    try:
        with open_video(path) as container:
            if not container.streams.video:
                raise DataError(f"{path}: holds no video stream")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            tick = 1 / float(stream.average_rate or stream.guessed_rate or 25)  # seconds
            time = -tick
            for frame in container.decode(stream):
                stamped = frame.time
                time = time + tick if stamped is None or stamped <= time else stamped
                picture = np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)
                yield time, upright(picture, frame.rotation)
    except UNREADABLE as error:
        raise DataError(f"{path}: cannot be read as a video ({error})") from error


def upright(picture: NDArray[np.uint8], rotation: int) -> NDArray[np.uint8]:
    """A picture (H, W, 3) as its camera was held: turned counterclockwise by `rotation` degrees,
    which phones write beside the pictures, to the nearest quarter."""
    return np.ascontiguousarray(np.rot90(picture, round(rotation / 90) % 4))


def read_frames(
    path: str | Path,
    size: tuple[int, int] | None = None,
    start: int = 0,
    count: int | None = None,
) -> NDArray[np.uint8]:
    """uint8 (T, H, W, 3): `count` frames from `start` on, or all; fewer if the video ends earlier.

    Raises DataError as `iterate_frames` does, or if there is no frame at all in that range.
    """
    frames = []
    if count is None or count > 0:
        for frame in iterate_frames(path, size, start=start):
            frames.append(frame)
            if len(frames) == count:
                break
    if not frames:
        raise DataError(f"{path}: has no frame {start}")
    return np.stack(frames)


def read_sound(path: str | Path) -> tuple[NDArray[np.float32], int]:
    """The first audio stream in mono: float32 (samples,) in -1..1, and its rate in Hz.

    Raises DataError if the file cannot be read or is silent for want of an audio stream.
    """
    try:
        with open_video(path) as container:
            if not container.streams.audio:
                raise DataError(f"{path}: holds no audio stream")
            stream = container.streams.audio[0]
            resampler = av.AudioResampler(format="flt", layout="mono")
            chunks = []
            for frame in container.decode(stream):
                chunks += [part.to_ndarray()[0] for part in resampler.resample(frame)]
            chunks += [part.to_ndarray()[0] for part in resampler.resample(None)]
            rate = int(stream.rate)
    except UNREADABLE as error:
        raise DataError(f"{path}: its sound cannot be read ({error})") from error
    sound = np.concatenate(chunks) if chunks else np.zeros(0, dtype=np.float32)
    return sound.astype(np.float32), rate
