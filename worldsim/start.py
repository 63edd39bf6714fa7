"""The start scene of a world folder: a short clip, or a picture."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worldsim.data.video import read_frames
from worldsim.errors import CheckpointError


def read_start(folder: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Frames uint8 (T, H, W, 3) of start.mkv, or the one of start.png."""
    for name in ("start.mkv", "start.png"):
        if (folder / name).is_file():
            return read_frames(folder / name, size)
    raise CheckpointError(f"{folder}: no start.mkv or start.png; reset with frames of your own")
