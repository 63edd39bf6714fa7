"""A scripted player of Bionic Blue: it runs, jumps, shoots what is in its way, stops to look.

Behaviours are generators as in `policy.py`: they yield a control and are sent the scene that the
control led to.
"""

from collections.abc import Callable, Generator

import numpy as np

from worldsim.games.scene import Scene, Thing
from worldsim.games.script import Scripted
from worldsim.games.table import BIONIC_CONTROLS

Behaviour = Generator[int, Scene, Scene]

NOOP, LEFT, RIGHT, JUMP, ATTACK, JUMP_LEFT, JUMP_RIGHT, CLIMB = range(len(BIONIC_CONTROLS))
STUCK = 3  # frames in which a runner did not get on: something is in the way
ARM = 8.0  # pixels to the middle of a ladder that one can take hold of
RANGE = 120.0  # pixels; what is farther off is not shot at


class BionicPlayer(Scripted[int]):
    """A player of the platformer."""

    def __init__(self, policy: str, seed: int, scene: Scene) -> None:
        """Raises ValueError for a policy that is not in `POLICIES`."""
        if policy not in POLICIES:
            raise ValueError(f"unknown policy {policy!r}; known: {', '.join(POLICIES)}")
        super().__init__(seed)
        self.begin(POLICIES[policy](self, scene))


def mixture(player: BionicPlayer, scene: Scene) -> Behaviour:
    """All behaviours by turns; forever."""
    behaviours, weights = list(MIXTURE), np.array(list(MIXTURE.values()))
    weights /= weights.sum()
    while True:
        draw = int(player.rng.choice(len(behaviours), p=weights))
        scene = yield from behaviours[draw](player, scene)


def keys(player: BionicPlayer, scene: Scene) -> Behaviour:
    """Only held random keys; forever."""
    while True:
        scene = yield from held_keys(player, scene)


def hold(scene: Scene, control: int, frames: int) -> Behaviour:
    """One control for some frames."""
    for _ in range(frames):
        scene = yield control
    return scene


def held_keys(player: BionicPlayer, scene: Scene) -> Behaviour:
    """A few keys, each held for a random time."""
    for _ in range(player.ticks(3, 7)):
        control = int(player.rng.integers(len(BIONIC_CONTROLS)))
        scene = yield from hold(scene, control, player.ticks(3, 14))
    return scene


def run(player: BionicPlayer, scene: Scene) -> Behaviour:
    """Mostly to the right, where the level goes on; jumps now and then, and over what is there."""
    walk, jump = (RIGHT, JUMP_RIGHT) if player.chance(0.7) else (LEFT, JUMP_LEFT)
    still = 0
    for _ in range(player.ticks(20, 90)):
        near = abs(nearest(scene).position[0] - scene.x) if monsters(scene) else RANGE
        if at_ladder(scene) and player.chance(0.3):
            scene = yield from climb(player, scene)
        elif still >= STUCK or player.chance(0.02):
            x = scene.x
            scene = yield from hold(scene, jump, player.ticks(10, 18))
            if scene.x == x:
                return scene  # not this way
            still = 0
        elif near < RANGE and player.chance(0.1):
            scene = yield from hold(scene, ATTACK, player.ticks(1, 3))
        else:
            x = scene.x
            scene = yield walk
            still = still + 1 if scene.x == x else 0
    return scene


def to_and_fro(player: BionicPlayer, scene: Scene) -> Behaviour:
    """Some frames one way, and as many back."""
    frames = player.ticks(8, 50)
    there, back = (LEFT, RIGHT) if player.chance(0.5) else (RIGHT, LEFT)
    scene = yield from hold(scene, there, frames)
    scene = yield from hold(scene, NOOP, player.ticks(0, 10))
    return (yield from hold(scene, back, frames))


def jumps(player: BionicPlayer, scene: Scene) -> Behaviour:
    """On the spot, or to a side."""
    for _ in range(player.ticks(1, 3)):
        control = (JUMP, JUMP_LEFT, JUMP_RIGHT)[player.ticks(0, 2)]
        scene = yield from hold(scene, control, player.ticks(6, 20))
        scene = yield from hold(scene, NOOP, player.ticks(2, 12))
    return scene


def look_on(player: BionicPlayer, scene: Scene) -> Behaviour:
    """Stands and watches."""
    return (yield from hold(scene, NOOP, player.ticks(6, 30)))


def fight(player: BionicPlayer, scene: Scene) -> Behaviour:
    """Turns to the nearest monster and shoots until it is gone, or patience is."""
    for _ in range(player.ticks(3, 12)):
        if not monsters(scene):
            break
        side = LEFT if nearest(scene).position[0] < scene.x else RIGHT
        if (scene.angle == 180.0) != (side == LEFT):
            scene = yield side
        scene = yield from hold(scene, ATTACK, 2)
        scene = yield from hold(scene, NOOP, player.ticks(1, 6))
    return scene


def charge(player: BionicPlayer, scene: Scene) -> Behaviour:
    """Holds the trigger, and lets go of it: a larger shot."""
    scene = yield from hold(scene, ATTACK, player.ticks(15, 70))
    return (yield from hold(scene, NOOP, player.ticks(4, 10)))


def climb(player: BionicPlayer, scene: Scene) -> Behaviour:
    """Up a ladder as far as it goes, or now and then a part of the way, and off to a side."""
    patience = player.ticks(5, 20) if player.chance(0.2) else 90
    scene = yield NOOP  # a key that is down already would not take hold
    still = 0
    for _ in range(patience):
        y = scene.y
        scene = yield CLIMB
        still = still + 1 if scene.y >= y else 0
        if still >= STUCK:
            break
    # walls rise above their ladders: the last bit is a jump
    return (yield from hold(scene, JUMP_RIGHT if player.chance(0.8) else LEFT, player.ticks(8, 20)))


def at_ladder(scene: Scene) -> bool:
    """Whether there is one to take hold of, with something of it above."""
    return any(
        thing.name == "Ladder"
        and thing.box is not None
        and abs(thing.position[0] - scene.x) < ARM
        and thing.position[1] - thing.box[3] < scene.y - ARM
        for thing in scene.things
    )


def monsters(scene: Scene) -> list[Thing]:
    """What can be shot, in view."""
    return [thing for thing in scene.things if thing.category == "Monster" and thing.box]


def nearest(scene: Scene) -> Thing:
    """Of the monsters; there must be one."""
    return min(monsters(scene), key=lambda thing: abs(thing.position[0] - scene.x))


MIXTURE: dict[Callable[[BionicPlayer, Scene], Behaviour], float] = {
    run: 0.42,
    held_keys: 0.2,
    to_and_fro: 0.08,
    jumps: 0.08,
    look_on: 0.08,
    fight: 0.1,
    charge: 0.04,
}
POLICIES: dict[str, Callable[[BionicPlayer, Scene], Behaviour]] = {
    "mixture": mixture,
    "keys": keys,
}
