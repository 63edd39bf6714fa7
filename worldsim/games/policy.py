"""Scripted players whose behaviour has consequences: what a world is to learn from.

A behaviour is a generator: it yields a control and is sent the scene that the control led to. The
mixture runs one behaviour after another, drawn at random, and steps back when the player faces a
wall, so that the hall, its monsters and the gun are in the picture most of the time.
"""

from collections.abc import Callable, Generator

import numpy as np

from worldsim.games.scene import Scene, Thing, Walls
from worldsim.games.script import Scripted
from worldsim.games.table import (
    ATTACK,
    BACKWARD,
    CONTROLS,
    FORWARD,
    FORWARD_LEFT,
    FORWARD_RIGHT,
    NOOP,
    TURN_LEFT,
    TURN_RIGHT,
)

Behaviour = Generator[int, Scene, Scene]

NEAR_WALL = 96.0  # map units; the player's radius is 16
NEAR_MONSTER = 192.0  # map units; closer, its fireballs fill the picture
AIM = 4.0  # degrees; one tic turns by 3.5
HELD = (*range(len(CONTROLS)), FORWARD, FORWARD_LEFT, FORWARD_RIGHT)  # walls cut steps short
MOVING = (FORWARD, FORWARD_LEFT, FORWARD_RIGHT)


class Player(Scripted[int]):
    """A player of the hall, who looks where walls and monsters are."""

    def __init__(self, policy: str, seed: int, walls: Walls, scene: Scene) -> None:
        """Raises ValueError for a policy that is not in `POLICIES`."""
        if policy not in POLICIES:
            raise ValueError(f"unknown policy {policy!r}; known: {', '.join(POLICIES)}")
        super().__init__(seed)
        self.walls = walls
        self.begin(POLICIES[policy](self, scene))

    def ahead(self, scene: Scene, turn: float = 0.0) -> float:
        """Free map units in front of the player, `turn` degrees to the left of its nose."""
        return self.walls.clearance(scene.x, scene.y, scene.angle + turn)

    def is_blocked(self, scene: Scene) -> bool:
        """True if a wall or a monster right ahead makes a step forward a bad idea."""
        if self.ahead(scene) < NEAR_WALL / 2:
            return True
        return any(
            scene.distance(*thing.position[:2]) < NEAR_MONSTER
            and abs(scene.bearing(*thing.position[:2])) < 40.0
            for thing in monsters(scene)
        )


def mixture(player: Player, scene: Scene) -> Behaviour:
    """All behaviours by turns; forever."""
    behaviours, weights = list(MIXTURE), np.array(list(MIXTURE.values()))
    weights /= weights.sum()
    while True:
        if player.ahead(scene) < NEAR_WALL:
            scene = yield from leave_wall(player, scene)
        seen = monsters(scene)
        if seen and scene.distance(*seen[0].position[:2]) < NEAR_MONSTER and player.chance(0.4):
            scene = yield from fight(player, scene, seen[0])
        draw = int(player.rng.choice(len(behaviours), p=weights))
        scene = yield from behaviours[draw](player, scene)


def keys(player: Player, scene: Scene) -> Behaviour:
    """Only held random keys; forever."""
    while True:
        scene = yield from held_keys(player, scene)


def hold(player: Player, scene: Scene, control: int, tics: int) -> Behaviour:
    """One control for some tics; a step forward ends at a wall."""
    for _ in range(tics):
        if control in MOVING and player.is_blocked(scene):
            break
        scene = yield control
    return scene


def held_keys(player: Player, scene: Scene) -> Behaviour:
    """A few keys, each held for a random time."""
    for _ in range(player.ticks(3, 7)):
        control = HELD[int(player.rng.integers(len(HELD)))]
        scene = yield from hold(player, scene, control, player.ticks(3, 18))
    return scene


def leave_wall(player: Player, scene: Scene) -> Behaviour:
    """Away from a wall: usually a turn towards open space, sometimes some steps back first."""
    if player.chance(0.4):
        scene = yield from hold(player, scene, BACKWARD, player.ticks(8, 24))
    side = 1.0 if player.ahead(scene, 70.0) > player.ahead(scene, -70.0) else -1.0
    if player.chance(0.15):
        side = -side
    control = TURN_LEFT if side > 0 else TURN_RIGHT
    for _ in range(player.ticks(20, 60)):
        if player.ahead(scene) > 2.5 * NEAR_WALL and player.chance(0.25):
            break
        scene = yield control
    return scene


def face(player: Player, scene: Scene, x: float, y: float, *, tics: int = 60) -> Behaviour:
    """Turns towards a point until it is ahead."""
    for _ in range(tics):
        bearing = scene.bearing(x, y)
        if abs(bearing) < AIM:
            break
        scene = yield TURN_LEFT if bearing > 0 else TURN_RIGHT
    return scene


def walk_to(player: Player, scene: Scene, x: float, y: float, *, tics: int) -> Behaviour:
    """Walks to a point, correcting the course with the combined controls."""
    for _ in range(tics):
        if scene.distance(x, y) < 48.0 or player.is_blocked(scene):
            break
        bearing = scene.bearing(x, y)
        before = (scene.x, scene.y)
        if abs(bearing) > 60.0:
            scene = yield TURN_LEFT if bearing > 0 else TURN_RIGHT
            continue
        course = FORWARD_LEFT if bearing > 0 else FORWARD_RIGHT
        scene = yield course if abs(bearing) > 6.0 else FORWARD
        if (scene.x, scene.y) == before and player.chance(0.2):
            break  # something that is not a wall stands in the way
    return scene


def free_point(player: Player, scene: Scene) -> tuple[float, float]:
    """A random point that the player could walk to in a straight line."""
    turn = float(player.rng.uniform(-150.0, 150.0))
    length = min(player.ahead(scene, turn) - 64.0, 500.0) * float(player.rng.uniform(0.4, 1.0))
    angle = np.radians(scene.angle + turn)
    return scene.x + length * float(np.cos(angle)), scene.y + length * float(np.sin(angle))


def danger(scene: Scene, x: float, y: float) -> float:
    """How close the nearest monster in view is to a point: the reciprocal of its distance."""
    gaps = [np.hypot(t.position[0] - x, t.position[1] - y) for t in monsters(scene)]
    return 1.0 / max(1.0, float(min(gaps, default=np.inf)))


def wander(player: Player, scene: Scene) -> Behaviour:
    """A walk to some free point, in straight lines or in curves, rather away from monsters."""
    points = [free_point(player, scene) for _ in range(3)]
    point = min(points, key=lambda p: danger(scene, *p)) if player.chance(0.7) else points[0]
    if scene.distance(*point) < 64.0:
        return (yield from leave_wall(player, scene))
    return (yield from walk_to(player, scene, *point, tics=player.ticks(30, 120)))


def curve(player: Player, scene: Scene) -> Behaviour:
    """Walks in an arc: forward and a turn held together."""
    control = FORWARD_LEFT if player.chance(0.5) else FORWARD_RIGHT
    scene = yield from hold(player, scene, control, player.ticks(10, 50))
    return scene


def turn_and_return(player: Player, scene: Scene) -> Behaviour:
    """k tics one way and k tics back, 8 <= k <= 105 (105 is a full circle)."""
    tics = int(np.exp(player.rng.uniform(np.log(8.0), np.log(106.0))))
    there, back = (TURN_LEFT, TURN_RIGHT) if player.chance(0.5) else (TURN_RIGHT, TURN_LEFT)
    scene = yield from hold(player, scene, there, tics)
    scene = yield from hold(player, scene, NOOP, player.ticks(0, 12))
    scene = yield from hold(player, scene, back, tics)
    return scene


def look_on(player: Player, scene: Scene) -> Behaviour:
    """Stands and watches."""
    scene = yield from hold(player, scene, NOOP, player.ticks(8, 35))
    return scene


def monsters(scene: Scene) -> list[Thing]:
    """Monsters in view, nearest first."""
    seen = [thing for thing in scene.things if thing.category == "Monster"]
    return sorted(seen, key=lambda thing: scene.distance(thing.position[0], thing.position[1]))


def hunt(player: Player, scene: Scene) -> Behaviour:
    """Turns towards a monster in view and shoots; looks around for one if there is none."""
    look = TURN_LEFT if player.chance(0.5) else TURN_RIGHT
    for _ in range(player.ticks(0, 60)):
        if monsters(scene):
            break
        scene = yield look
    seen = monsters(scene)
    if not seen:
        return scene
    shooters = [thing for thing in seen if thing.name == "DoomImp"]
    target = shooters[0] if shooters and player.chance(0.3) else seen[0]
    return (yield from fight(player, scene, target))


def fight(player: Player, scene: Scene, target: Thing) -> Behaviour:
    """Turns towards a monster and shoots until it is gone, or patience is."""
    scene = yield from face(player, scene, target.position[0], target.position[1])
    for _ in range(player.ticks(10, 60)):
        alive = [thing for thing in monsters(scene) if thing.id == target.id]
        if not alive and player.chance(0.3):
            break
        bearing = scene.bearing(*alive[0].position[:2]) if alive else 0.0
        if abs(bearing) > AIM:
            scene = yield TURN_LEFT if bearing > 0 else TURN_RIGHT
        else:
            scene = yield ATTACK
    return scene


def approach_and_retreat(player: Player, scene: Scene) -> Behaviour:
    """Towards a monster or straight on, then backwards by about as much."""
    seen = monsters(scene)
    if seen and player.chance(0.7):
        scene = yield from face(player, scene, seen[0].position[0], seen[0].position[1])
    tics = player.ticks(8, 45)
    scene = yield from hold(player, scene, FORWARD, tics)
    if player.chance(0.4):
        scene = yield from hold(player, scene, ATTACK, player.ticks(4, 16))
    scene = yield from hold(player, scene, BACKWARD, tics)
    return scene


MIXTURE: dict[Callable[[Player, Scene], Behaviour], float] = {
    held_keys: 0.28,
    wander: 0.34,
    curve: 0.16,
    turn_and_return: 0.06,
    look_on: 0.12,
    hunt: 0.13,
    approach_and_retreat: 0.10,
}
POLICIES: dict[str, Callable[[Player, Scene], Behaviour]] = {"mixture": mixture, "keys": keys}
