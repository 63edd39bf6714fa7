"""What the overlay says: frame rate and tail of the frame time, as measured, never as hoped."""

from collections import deque
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Meter:
    """Times at which frames were shown, the last `size` of them."""

    size: int = 350
    _times: deque[float] = field(default_factory=deque)

    def shown(self, now: float) -> None:
        """A frame went to the screen at `now` (seconds)."""
        self._times.append(now)
        if len(self._times) > self.size:
            self._times.popleft()

    def pause(self) -> None:
        """What comes next has no frame before it."""
        self._times.clear()

    def fps(self) -> float | None:
        """Frames per second over what is kept; None before the second frame."""
        if len(self._times) < 2:
            return None
        return (len(self._times) - 1) / (self._times[-1] - self._times[0])

    def p99_ms(self) -> float | None:
        """99th percentile of the time between two frames, ms; None before the second frame."""
        if len(self._times) < 2:
            return None
        return float(1e3 * np.percentile(np.diff(self._times), 99))

    def line(self, missed: int, flow_steps: int | None = None) -> str:
        """One line for the overlay; `flow_steps` of the last frame, where they are known."""
        fps, p99 = self.fps(), self.p99_ms()
        if fps is None or p99 is None:
            return f"missed {missed}"
        level = "" if flow_steps is None else f"   K {flow_steps}"
        return f"{fps:.1f} frames/s   p99 {p99:.1f} ms   missed {missed}{level}"
