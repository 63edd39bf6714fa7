"""A scripted player with continuous controls: it turns by angles and walks at speeds.

Speeds are held for a while and turns for a few tics, as by a hand on a mouse: who holds a turn for
long teaches a world to go on as before, whatever it is asked for. A wall ahead is left by a turn or
backwards.
"""

from collections.abc import Generator

from worldsim.games.scene import Scene, Walls
from worldsim.games.script import Scripted
from worldsim.games.table import MAX_SPEED, MAX_TURN

NEAR_WALL = 96.0  # map units
SIDE = 70.0  # degrees, to look for open space
Move = tuple[float, ...]  # as the axes of the game: turn to the right, speed, attack


class Steerer(Scripted[Move]):
    """A player of the hall with axes."""

    def __init__(self, seed: int, walls: Walls, scene: Scene) -> None:
        super().__init__(seed)
        self._walls = walls
        self.begin(self._play(scene))

    def _play(self, scene: Scene) -> Generator[Move, Scene, None]:
        rng = self.rng
        while True:
            if self._ahead(scene) < NEAR_WALL:
                scene = yield from self._leave_wall(scene)
            speed, attack, turn, left = self._speed(), float(rng.random() < 0.15), 0.0, 0
            for _ in range(rng.integers(3, 19)):
                if speed > 0 and self._ahead(scene) < NEAR_WALL / 2:
                    break
                if left == 0:
                    turn, left = self._turn(), int(rng.integers(1, 7))
                left -= 1
                scene = yield (turn, speed, attack)

    def _leave_wall(self, scene: Scene) -> Generator[Move, Scene, Scene]:
        """Backwards, or towards the more open side."""
        rng = self.rng
        if rng.random() < 0.4:
            speed = -round(float(rng.uniform(0.3, 1.0)) * MAX_SPEED, 2)
            for _ in range(rng.integers(8, 25)):
                scene = yield (0.0, speed, 0.0)
            return scene
        to_right = self._ahead(scene, -SIDE) > self._ahead(scene, SIDE)
        turn = round(float(rng.uniform(0.25, 1.0)) * MAX_TURN * (1 if to_right else -1), 2)
        for _ in range(60):
            if self._ahead(scene) > 2 * NEAR_WALL:
                break
            scene = yield (turn, 0.0, 0.0)
        return scene

    def _turn(self) -> float:
        """Often none, often a small one."""
        kind = self.rng.random()
        if kind < 0.2:
            return 0.0
        reach = MAX_TURN / 3 if kind < 0.45 else MAX_TURN
        return round(float(self.rng.uniform(-reach, reach)), 2)

    def _speed(self) -> float:
        if self.rng.random() < 0.45:
            return 0.0
        return round(float(self.rng.uniform(-0.6, 1.0)) * MAX_SPEED, 2)

    def _ahead(self, scene: Scene, turn: float = 0.0) -> float:
        """Free map units in front, `turn` degrees to the left of the nose."""
        return self._walls.clearance(scene.x, scene.y, scene.angle + turn)
