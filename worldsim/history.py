"""The past of a game, for rewinding: a ring of states, one every few ticks. No I/O.

A state that is forgotten gives its memory to the next one. Were it freed instead, each between two
ticks' worth of other memory, the process would grow for as long as it runs.
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
        self._ring: deque[tuple[int, WorldState]] = deque()
        self._free: list[WorldState] = []  # memory for states to come

    def is_due(self, tick: int) -> bool:
        """Whether the state at `tick` is one of those to keep."""
        return tick % self.every == 0

    def keep(self, tick: int, slot: Slot) -> None:
        """Remember the state at `tick`; later ones are of a future that did not happen."""
        while self._ring and self._ring[-1][0] >= tick:
            self._free.append(self._ring.pop()[1])
        if len(self._ring) == self.size:
            self._free.append(self._ring.popleft()[1])
        if not self._free:
            self._ring.append((tick, slot.alone()))
            return
        state = self._free.pop()
        for name, target in state.tensors().items():
            target[...] = slot.stack.tensors()[name][slot.row : slot.row + 1]
        self._ring.append((tick, state))

    def at(self, tick: int) -> "tuple[int, WorldState] | None":
        """The newest state not after `tick`, copied, and its tick; None if that is forgotten."""
        for kept, state in reversed(self._ring):
            if kept <= tick:
                return kept, Slot(state, 0).alone()
        return None

    def oldest(self) -> int | None:
        """The first tick that can be gone back to."""
        return self._ring[0][0] if self._ring else None

    def clear(self) -> None:
        """Forget everything: another story begins."""
        self._free += [state for _, state in self._ring]
        self._ring.clear()
