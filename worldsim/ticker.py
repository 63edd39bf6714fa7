"""Open-loop time: tick k is due at start + k * period, whatever happened to the ticks before it.

Latency counts from the due time, so a stall shows in every tick that it delays. A tick whose whole
period went by before it could begin is dropped and counted, never queued.
"""

import math


class Ticker:
    """Due times of a fixed rate, on whichever monotonic clock `now` is read from (seconds)."""

    def __init__(self, period: float, now: float) -> None:
        """The first tick is due at `now`; `period` is in seconds, above 0."""
        if period <= 0:
            raise ValueError(f"period must be above 0 s, got {period}")
        self.period = period
        self.missed = 0
        self._start = now
        self._tick = 0

    @property
    def due(self) -> float:
        """When the present tick is due."""
        return self._start + self._tick * self.period

    def finish(self, now: float) -> int:
        """End the present tick at `now`; the number of ticks dropped on the way to the next."""
        current = math.floor((now - self._start) / self.period)  # the tick that `now` lies in
        dropped = max(0, current - (self._tick + 1))
        self.missed += dropped
        self._tick += 1 + dropped
        return dropped
