"""The past of a game, for rewinding: a ring of states, one every few ticks. No I/O."""

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worldsim.state import WorldState

MEMORY = 64 * 1024 * 1024  # bytes of a game's ring
SPACING = 0.25  # seconds between two states
LONGEST = 60.0  # seconds that are remembered at most, however small a state is


class History:
    """States by tick, the oldest forgotten first; at most MEMORY bytes."""

    def __init__(self, *, rate: float, state_bytes: int) -> None:
        """`rate`: ticks per second; `state_bytes`: what one state takes."""
        self.every = max(1, round(SPACING * rate))
        fitting = MEMORY // max(1, state_bytes)
        self.size = max(1, min(fitting, round(LONGEST * rate / self.every)))
        self.seconds = self.size * self.every / rate
        self._ring: deque[tuple[int, WorldState]] = deque(maxlen=self.size)

    def is_due(self, tick: int) -> bool:
        """Whether the state at `tick` is one of those to keep."""
        return tick % self.every == 0

    def keep(self, tick: int, state: "WorldState") -> None:
        """Remember the state at `tick`; later ones are of a future that did not happen."""
        while self._ring and self._ring[-1][0] >= tick:
            self._ring.pop()
        self._ring.append((tick, state))

    def at(self, tick: int) -> "tuple[int, WorldState] | None":
        """The newest state not after `tick`, and its tick; None if all of that is forgotten."""
        found = [entry for entry in self._ring if entry[0] <= tick]
        return found[-1] if found else None

    def oldest(self) -> int | None:
        """The first tick that can be gone back to."""
        return self._ring[0][0] if self._ring else None

    def clear(self) -> None:
        """Forget everything: another story begins."""
        self._ring.clear()
