"""The memory's recurrence as a small C++ function, built with the system's compiler.

Eager torch walks over the state several times; this does it once. Everything else is torch.
"""

import ctypes
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from worldsim.errors import MachineError

SOURCE = Path(__file__).parent / "ssm.cpp"
LIBRARY = "ssm.so"
# Sums may be reordered, so that they use vectors. Not -ffast-math: a library linked with that makes
# the whole process treat the smallest numbers as zero.
MATH = ("-fassociative-math", "-fno-signed-zeros", "-fno-trapping-math", "-fno-math-errno")
FLAGS = ("-O3", "-march=native", *MATH, "-shared", "-fPIC")
BUILD_SECONDS = 120.0


def compiler() -> str | None:
    """The C++ compiler of this machine, None if it has none."""
    names = (os.environ.get("CXX"), "g++", "clang++", "c++")
    return next((path for name in names if name and (path := shutil.which(name))), None)


def build() -> dict[str, bytes]:
    """The library, by file name; MachineError if it cannot be built."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, LIBRARY)
        build_library(library, SOURCE)
        return {LIBRARY: library.read_bytes()}


def build_library(library: Path, source: Path) -> None:
    """C++ -> `library`, for this machine; MachineError if it cannot be built."""
    found = compiler()
    if found is None:
        raise MachineError("it needs a C++ compiler (Debian: apt-get install g++)")
    try:
        done = subprocess.run(
            [found, *FLAGS, "-o", str(library), str(source)],
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MachineError(f"{found} failed: {error}") from error
    if done.returncode:
        raise MachineError(f"{found} failed: {done.stderr.strip()[:200]}")


class NativeUpdate:
    """`worldsim.dynamics.Update` through the library."""

    def __init__(self, library: Path) -> None:
        self._call = ctypes.CDLL(str(library)).worldsim_ssm_update
        self._call.argtypes = [ctypes.c_void_p] * 8 + [ctypes.c_int64] * 4
        self._call.restype = None

    def __call__(
        self, values: Tensor, b: Tensor, c: Tensor, dt: Tensor, a: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Shapes as in `Update`; float32 on the CPU."""
        inputs = [x.contiguous() for x in (values, b, c, dt, a, state)]
        if any(x.dtype != torch.float32 or x.device.type != "cpu" for x in inputs):
            raise ValueError("the native update takes float32 on the CPU")
        outputs, after = torch.empty_like(inputs[0]), torch.empty_like(inputs[5])
        self._call(*(x.data_ptr() for x in (*inputs, outputs, after)), *state.shape)
        return outputs, after
