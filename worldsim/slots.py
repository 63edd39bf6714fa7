"""Many players in one batch: each has a slot, a row of a stack of states.

The stack that comes out of a tick goes into the next one as it is, for as long as the same players
sit in the same rows; nobody's state is copied while nobody joins, leaves or pauses. Batches have
few sizes (1, 2, 4, 8, ...), because the last bit of a sum may depend on how many rows are computed
together: a game replays bit for bit as long as the size stays. Empty rows repeat the last player.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worldsim.state import WorldState


@dataclass(frozen=True)
class Slot:
    """One player's state."""

    stack: "WorldState"
    row: int

    def alone(self) -> "WorldState":
        """The state as a batch of one, copied: keeping it keeps nobody else's alive."""
        return type(self.stack).stack([self.stack.select(self.row)])


def gather(slots: Sequence[Slot], size: int) -> "WorldState":
    """The states of `slots` in that order, padded to `size` rows; as they are if they lie so."""
    first = slots[0].stack
    if first.batch == size and all(
        slot.stack is first and slot.row == row for row, slot in enumerate(slots)
    ):
        return first
    padded = [*slots, *[slots[-1]] * (size - len(slots))]
    return type(first).stack([slot.stack.select(slot.row) for slot in padded])


def num_bytes(state: "WorldState") -> int:
    """What it takes to keep `state`."""
    return sum(x.nbytes for x in state.tensors().values())
