"""The past of a game, for rewinding: a ring of states, one every few ticks. No I/O.

The ring is one block of memory, of which a state is a row; only rows in use take memory. Were
states kept one by one, each would lie between what two ticks leave behind and keep that from being
given back (docs/log.md, 2026-11-22).
"""

from collections import deque
from typing import TYPE_CHECKING

from worldsim.slots import Slot

if TYPE_CHECKING:
    from worldsim.state import WorldState

MEMORY = 64 * 1024 * 1024  # bytes of a ring, if nothing else is said
SPACING = 0.25  # seconds between two states
LONGEST = 60.0  # seconds that are remembered at most, however small a state is


class History:
    """States by tick, the oldest forgotten first; at most `memory` bytes."""

    def __init__(self, *, rate: float, state_bytes: int, memory: int = MEMORY) -> None:
        """`rate`: ticks per second; `state_bytes`: what one state takes."""
        self.every = max(1, round(SPACING * rate))
        fitting = memory // max(1, state_bytes)
        self.size = max(1, min(fitting, round(LONGEST * rate / self.every)))
        self.seconds = self.size * self.every / rate
        self._ring: deque[tuple[int, int]] = deque()  # ticks, and the rows of their states
        self._free = list(range(self.size))[::-1]  # rows
        self._rows: WorldState | None = None

    def is_due(self, tick: int) -> bool:
        """Whether the state at `tick` is one of those to keep."""
        return tick % self.every == 0

    def keep(self, tick: int, slot: Slot) -> None:
        """Remember the state at `tick`; later ones are of a future that did not happen."""
        while self._ring and self._ring[-1][0] >= tick:
            self._free.append(self._ring.pop()[1])
        if len(self._ring) == self.size:
            self._free.append(self._ring.popleft()[1])
        if self._rows is None:
            self._rows = slot.stack.room(self.size)
        row = self._free.pop()
        for name, target in self._rows.tensors().items():
            target[row] = slot.stack.tensors()[name][slot.row]
        self._ring.append((tick, row))

    def at(self, tick: int) -> "tuple[int, WorldState] | None":
        """The newest state not after `tick`, copied, and its tick; None if that is forgotten."""
        for kept, row in reversed(self._ring):
            if kept <= tick and self._rows is not None:
                return kept, Slot(self._rows, row).alone()
        return None

    def oldest(self) -> int | None:
        """The first tick that can be gone back to."""
        return self._ring[0][0] if self._ring else None

    def clear(self) -> None:
        """Forget everything: another story begins."""
        self._free += [row for _, row in self._ring]
        self._ring.clear()
