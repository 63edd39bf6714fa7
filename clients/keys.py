"""From the keys that are held to the one action of a tick. Knows nothing of pygame."""

from collections.abc import Set

UP, DOWN, LEFT, RIGHT, FIRE = "up", "down", "left", "right", "fire"


def wanted(held: Set[str]) -> tuple[str, ...]:
    """Controls in the order of preference; the first that a world has is the one.

    Opposite keys cancel; firing wins over walking; a walk with a turn is the combined control, or
    the turn alone in a world without it. A world seen from the side has left, right, up and down.
    """
    ahead = (UP in held) - (DOWN in held)
    turn = (RIGHT in held) - (LEFT in held)
    side = {-1: "left", 0: "", 1: "right"}[turn]
    walk = {-1: "backward", 0: "", 1: "forward"}[ahead]
    names = []
    if FIRE in held:
        names.append("attack")
    if walk and side:
        names.append(f"{walk}_{side}")
    if side:
        names += [f"turn_{side}", side]
    if walk:
        names += [walk, {"forward": "up", "backward": "down"}[walk]]
    return (*names, "noop")


def choose(held: Set[str], bindings: dict[str, int]) -> int:
    """The code of the control that the held keys ask for; code 0 if the world has none of them."""
    return next((bindings[name] for name in wanted(held) if name in bindings), 0)
