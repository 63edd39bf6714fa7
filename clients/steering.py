"""From keys, mouse and stick to the axes of a world. Knows nothing of pygame.

Each of the first four axes has two keys, one towards each end of its range; the mouse, dragged, and
the stick move the first two. Whoever lets go leaves an axis at rest.
"""

from collections.abc import Sequence, Set

from worldsim.axes import Axis
from worldsim.clients.keys import DOWN, FIRE, LEFT, LOWER, RAISE, REST, RIGHT, UP

PAIRS = ((LEFT, RIGHT), (DOWN, UP), (REST, FIRE), (LOWER, RAISE))  # towards low, towards high
FULL_DRAG = 24.0  # pixels of the mouse between two ticks that mean the end of a range
DEAD = 0.15  # of the stick: less is its middle


class Steering:
    """What the player wants of every axis, -1 (its low end) to 1 (its high end)."""

    def __init__(self, axes: Sequence[Axis]) -> None:
        self._axes = axes
        self._stick = (0.0, 0.0)
        self._drag = (0.0, 0.0)

    def drag(self, right: float, up: float) -> None:
        """The mouse went so many pixels since the last time that it was said."""
        self._drag = (self._drag[0] + right, self._drag[1] + up)

    def lean(self, right: float, up: float) -> None:
        """Where the stick is, -1..1."""
        self._stick = (right, up)

    def read(self, held: Set[str]) -> tuple[float, ...]:
        """The action of a tick, with these keys held; what the mouse went is used up by it."""
        wanted = [float((high in held) - (low in held)) for low, high in PAIRS]
        for i, (drag, lean) in enumerate(zip(self._drag, self._stick, strict=True)):
            wanted[i] += drag / FULL_DRAG + (lean if abs(lean) > DEAD else 0.0)
        self._drag = (0.0, 0.0)
        wanted += [0.0] * (len(self._axes) - len(wanted))
        return tuple(value_of(axis, w) for axis, w in zip(self._axes, wanted, strict=False))


def value_of(axis: Axis, wanted: float) -> float:
    """From -1..1 to the range of an axis; what is beyond them is cut off."""
    end = axis.high if wanted > 0 else axis.low
    return axis.rest + min(1.0, abs(wanted)) * (end - axis.rest)
