"""How fast a stage learns: frames per second, and the share of what the processor could do.

The operations of matrix products and convolutions are counted in one update of some hundred, and
set against products of large matrices in the same precision, measured on the same device. Counting
changes the last digits of an update, so it is the same updates that are counted however often a run
stops. Native parts (native.py) are not counted.
"""

import time
from collections.abc import Callable
from typing import TypeVar

import torch
from torch.utils.flop_counter import FlopCounterMode

from worldsim.floors import measure_peak
from worldsim.training.device import device_of, precision_of

T = TypeVar("T")
COUNT_EVERY = 500  # updates: later ones do more


class Pace:
    """Of the updates that are made through `run`."""

    def __init__(self, model: torch.nn.Module, frames: int) -> None:
        """`frames` per update."""
        self._device, self._frames = device_of(model), frames
        self._timed, self._seconds = 0, 0.0
        self._operations = 0
        self._peak: float | None = None  # per second

    def run(self, step: int, update: Callable[[], T]) -> T:
        """`update()`, number `step` of the stage, counted or timed."""
        if step % COUNT_EVERY == 1:  # the first one has nothing to carry on yet
            with FlopCounterMode(display=False) as counter:
                done = update()
            self._operations = int(counter.get_total_flops())
            self._timed, self._seconds = 0, 0.0
            return done
        begun = time.perf_counter()
        done = update()
        self._seconds += time.perf_counter() - begun
        self._timed += 1
        return done

    def __str__(self) -> str:
        """For people; empty until something was timed."""
        if not self._timed:
            return ""
        rate = self._timed / self._seconds
        said = f"{self._frames * rate:.0f} frames/s"
        if self._operations:
            self._peak = self._peak or measure_peak(self._device, precision_of(self._device))
            said += f", {self._operations * rate / self._peak:.0%} of peak"
        return said
