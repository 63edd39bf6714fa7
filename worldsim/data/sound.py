"""The sound of a video on the clock of its frames, kept as a memory-mapped array beside them.

Row t holds the samples from when frame t is due until the next one is: N of them, whatever rate
the file has. The n-th sample of row t is that of time (t + n / N) / fps after the first frame.
"""

import os
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from worldsim.data.video import UNREADABLE, open_video
from worldsim.errors import DataError

FULL = 32767  # of int16: a sample of 1.0
LOUD = 0.003  # root mean square, of 1.0; what never is that loud is silent


def sound_of_frames(
    video: Path, kept: Path, ticks: int, fps: float, samples: int
) -> NDArray[np.int16] | None:
    """int16 (ticks, samples) of `video`, mono, from the file `kept`, or made and kept there; None
    if the video has no sound. Past its end there is silence.

    Raises DataError if its sound cannot be read to its end, or cannot be kept.
    """
    if not kept.is_file():
        rows = read_rows(video, ticks, fps, samples)
        if rows is None:
            return None
        unfinished = kept.with_name(f"{kept.name}.{os.getpid()}.part.npy")
        try:
            np.save(unfinished, rows)
            unfinished.replace(kept)
        except OSError as error:
            raise DataError(f"{video}: its sound cannot be kept ({error})") from error
        finally:
            unfinished.unlink(missing_ok=True)
    try:
        sound: NDArray[np.int16] = np.load(kept, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{kept}: damaged cache file ({error}); delete it") from error
    if sound.shape != (ticks, samples) or sound.dtype != np.int16:
        raise DataError(f"{kept}: damaged cache file, shape {sound.shape}; delete it")
    return sound


def read_rows(video: Path, ticks: int, fps: float, samples: int) -> NDArray[np.int16] | None:
    """What `sound_of_frames` keeps, from the file itself."""
    rate = round(samples * fps)
    try:
        with open_video(video) as container:
            if not container.streams.audio or not container.streams.video:
                return None
            heard = container.streams.audio[0]
            begin = _time(container.streams.video[0]) - _time(heard)  # seconds
            resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
            parts = []
            for frame in container.decode(heard):
                parts += [part.to_ndarray()[0] for part in resampler.resample(frame)]
            parts += [part.to_ndarray()[0] for part in resampler.resample(None)]
    except UNREADABLE as error:
        raise DataError(f"{video}: its sound cannot be read ({error})") from error
    if not parts:
        return None
    line = np.concatenate(parts)
    # a rate is a whole number, samples per second of a whole number per tick need not be
    first = np.rint((begin + np.arange(ticks) / fps) * rate).astype(np.int64)
    index = first[:, None] + np.arange(samples)
    inside = (index >= 0) & (index < len(line))
    rows = np.where(inside, line[np.clip(index, 0, len(line) - 1)], 0.0)
    sound: NDArray[np.int16] = np.rint(np.clip(rows, -1.0, 1.0) * FULL).astype(np.int16)
    return sound


def is_silent(sound: NDArray[np.int16]) -> bool:
    """Whether nothing can be heard in any tick."""
    for part in np.array_split(sound, max(1, len(sound) // 4096)):
        loudest = np.sqrt(np.square(part / FULL, dtype=np.float32).mean(axis=1)).max(initial=0.0)
        if loudest > LOUD:
            return False
    return True


def _time(stream: av.stream.Stream) -> float:
    """When a stream begins, in seconds."""
    if stream.start_time is None or stream.time_base is None:
        return 0.0
    return float(stream.start_time * stream.time_base)
