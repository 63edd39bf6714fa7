"""Where the pictures of a game come from: a world in this process, or a server.

Window and headless play know only `Source`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from worldsim.axes import Action, Axis, at_rest
from worldsim.clients.keys import choose


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One frame to show. `action_ms`: from the action to having the frame, None if it reflects no
    new action."""

    frame: NDArray[np.uint8]  # (H, W, 3)
    sound: NDArray[np.float32] | None = None  # (n,), -1..1; None in a silent world
    is_alarm: bool
    action_ms: float | None
    flow_steps: int | None = None  # that it was given; None: the server's own business
    objects: NDArray[np.float32] | None = None  # (K, D) as in docs/protocol.md


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a world says about itself."""

    name: str
    hash: str
    fps: float
    sample_rate: int | None = None  # Hz; None: silent
    frame_size: tuple[int, int]  # (H, W)
    bindings: dict[str, int]
    num_actions: int
    axes: tuple[Axis, ...] = ()  # of continuous actions, in place of codes

    @property
    def idle(self) -> Action:
        """What somebody does who does nothing."""
        return at_rest(self.axes) if self.axes else choose(set(), self.bindings)


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """How a game starts, and starts again at a reset. `picture` and `snapshot` are files' bytes."""

    seed: int = 0
    picture: bytes | None = None
    snapshot: bytes | None = None


class Source(Protocol):
    """A game that is being played."""

    facts: Facts

    @property
    def missed(self) -> int:
        """Ticks dropped so far, as counted by whoever runs the world."""
        ...

    def poll(self, read: Callable[[], Action]) -> Picture | None:
        """The next picture in real time; `read` says which action is held, as late as possible.

        None when there was no picture for a while.
        """
        ...

    def single(self, action: Action) -> Picture:
        """One tick, out of time: for single steps and for headless play."""
        ...

    def settle(self) -> None:
        """The picture is on the screen: do what can wait."""
        ...

    def reset(self) -> None:
        """Begin again as at first."""
        ...

    def pause(self, paused: bool) -> None:
        """Stop real time, or let it go on."""
        ...

    def save(self) -> bytes:
        """The present moment, as `World.snapshot` writes it."""
        ...

    def load(self, snapshot: bytes) -> None:
        """Go on from a snapshot. WorldsimError if it is not one of this world; nothing is lost."""
        ...

    def rewind(self, ticks: int) -> int:
        """Undo at least `ticks`; how many it were, 0 if the past does not reach so far."""
        ...

    def fork(self) -> "Source":
        """A second game with the same present, which goes its own way."""
        ...

    def bind(self, control: str, code: int) -> None:
        """From now on `control` is this code, here and in the world's folder. WorldsimError if the
        world cannot be changed."""
        ...

    def close(self) -> None:
        """End the game."""
        ...
