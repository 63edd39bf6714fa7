"""What has to be settled before torch is first imported."""

import ctypes
import os
from typing import TYPE_CHECKING

from worldsim.errors import ArgumentError, MachineError

if TYPE_CHECKING:
    import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h


def prepare(threads: int = 1) -> None:
    """Give torch `threads` compute threads that sleep when they have nothing to do.

    Busy-waiting threads take the core that encodes and serves. What the environment already says
    about OpenMP stays. Call it before anything imports torch: OpenMP reads these names once.
    """
    if threads < 1:
        raise ArgumentError(f"threads must be at least 1, got {threads}")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    import torch

    torch.set_num_threads(threads)


def available_cores() -> int:
    """Cores that this program may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def find_device(name: str) -> "torch.device":
    """The device of that name; MachineError if torch knows none, or finds none here."""
    import torch

    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        why = str(error).splitlines()[0].rstrip(".")
        raise MachineError(f"device {name!r} cannot be used here ({why}); cpu can") from error
    return device


def keep_memory() -> None:
    """Let the C library keep what is freed, for the next update of a training run.

    Otherwise it hands large tensors back to the system, which gives them out anew page by page,
    filled with zeros: 90,000 pages per update of the default dynamics. Nothing happens where
    the C library is not glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(M_MMAP_THRESHOLD, 1 << 30)
    mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
