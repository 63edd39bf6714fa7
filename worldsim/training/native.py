"""Parts of an update in C++, compiled when training begins, which takes a second.

Eager torch walks over a batch of pictures with every operation; what is in this source walks over
it once. Without a compiler, torch does everything.
"""

import ctypes
import functools
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from worldsim.backends.native import build_library
from worldsim.errors import MachineError
from worldsim.training.say import say

SOURCE = Path(__file__).parent / "pictures.cpp"


class Library:
    """Functions that take pointers to contiguous tensors, and numbers."""

    def __init__(self, path: Path) -> None:
        self._functions: Any = ctypes.CDLL(str(path))
        self._functions.worldsim_motion_loss.restype = ctypes.c_double

    def call(self, name: str, *arguments: Tensor | int) -> Any:
        """Run a function, by its name without worldsim_."""
        given = [
            ctypes.c_void_p(x.data_ptr()) if isinstance(x, Tensor) else ctypes.c_int64(x)
            for x in arguments
        ]
        return getattr(self._functions, f"worldsim_{name}")(*given)


def library_for(device: torch.device) -> Library | None:
    """The library, for a CPU; says so if it cannot be had."""
    return _built(SOURCE) if device.type == "cpu" else None


@functools.cache
def _built(source: Path) -> Library | None:
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "training.so")
            build_library(path, source)
            return Library(path)
    except (MachineError, OSError) as error:
        say(f"training is slower than it could be: {error}")
        return None
