"""What all scripted players are: dice of their own, and a script that is sent what it led to."""

from collections.abc import Generator
from typing import Generic, TypeVar

import numpy as np

from worldsim.games.scene import Scene

Move = TypeVar("Move")  # a control, or the values of the axes


class Scripted(Generic[Move]):
    """A player whose script, a generator, yields moves: `control` is the coming one, `see` tells it
    the scene that it led to."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self._script: Generator[Move, Scene, object]
        self._control: Move

    def begin(self, script: Generator[Move, Scene, object]) -> None:
        """Once, before anything else."""
        self._script, self._control = script, next(script)

    @property
    def control(self) -> Move:
        """The move of the coming frame."""
        return self._control

    def see(self, scene: Scene) -> None:
        """The scene that `control` led to."""
        self._control = self._script.send(scene)

    def ticks(self, low: int, high: int) -> int:
        """A random duration, both ends included."""
        return int(self.rng.integers(low, high + 1))

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)
