"""Parts of an update in C++, compiled when training begins, which takes two seconds.

Eager torch spends most of an update on thousands of small operations that each walk over memory.
What is in these sources walks over it once. Without a compiler, torch does everything.
"""

import ctypes
import functools
import tempfile
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from worldsim.backends.native import build_library
from worldsim.errors import MachineError
from worldsim.training.say import say

SOURCES = tuple(
    Path(__file__).parent / name for name in ("pictures.cpp", "attention.cpp", "scan.cpp")
)


class Library:
    """Functions that take pointers to contiguous tensors, and numbers."""

    def __init__(self, path: Path) -> None:
        self._functions: Any = ctypes.CDLL(str(path))
        self._functions.worldsim_motion_loss.restype = ctypes.c_double

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # code has no state of its own

    def call(self, name: str, *arguments: Tensor | int) -> Any:
        """Run a function, by its name without worldsim_."""
        given = [
            ctypes.c_void_p(x.data_ptr()) if isinstance(x, Tensor) else ctypes.c_int64(x)
            for x in arguments
        ]
        return getattr(self._functions, f"worldsim_{name}")(*given)


def library_for(device: torch.device) -> Library | None:
    """The library, for a CPU; says so if it cannot be had."""
    return _built(SOURCES) if device.type == "cpu" else None


@functools.cache
def _built(sources: tuple[Path, ...]) -> Library | None:
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "training.so")
            build_library(path, *sources)
            return Library(path)
    except (MachineError, OSError) as error:
        say(f"training is slower than it could be: {error}")
        return None
