"""From the keys that are held to the one action of a tick. Knows nothing of pygame."""

from collections.abc import Set

UP, DOWN, LEFT, RIGHT, FIRE = "up", "down", "left", "right", "fire"
REST, LOWER, RAISE = "rest", "lower", "raise"  # for axes: against FIRE, and the fourth pair
OWN = "key_"  # a key that stands for nothing but itself, key_k
# control that a key is bound to: the first that the world has already, else the first
BINDABLE = {
    UP: ("forward", "up", "jump"),
    DOWN: ("backward", "down"),
    LEFT: ("turn_left", "left"),
    RIGHT: ("turn_right", "right"),
    FIRE: ("attack",),
}


def wanted(held: Set[str]) -> tuple[str, ...]:
    """Controls in the order of preference; the first that a world has is the one.

    A key of its own wins. Opposite keys cancel; firing wins over walking; a walk with a turn is the
    combined control, or the turn alone in a world without it. A world seen from the side has left,
    right, up and down, or a jump.
    """
    ahead = (UP in held) - (DOWN in held)
    turn = (RIGHT in held) - (LEFT in held)
    side = {-1: "left", 0: "", 1: "right"}[turn]
    walk = {-1: "backward", 0: "", 1: "forward"}[ahead]
    names = sorted(name for name in held if name.startswith(OWN))
    if FIRE in held:
        names += [f"attack_{side}"] * bool(side) + ["attack"]
    if walk and side:
        names += [f"{walk}_{side}", *([f"jump_{side}"] if walk == "forward" else [])]
    if side:
        names += [f"turn_{side}", side]
    if walk:
        names += {"forward": ("forward", "up", "jump"), "backward": ("backward", "down")}[walk]
    return (*names, "noop")


def control_of(key: str, bindings: dict[str, int]) -> str:
    """The control that a key stands for, to be bound to a code."""
    names = BINDABLE.get(key, (key,))
    return next((name for name in names if name in bindings), names[0])


def choose(held: Set[str], bindings: dict[str, int]) -> int:
    """The code of the control that the held keys ask for; code 0 if the world has none of them."""
    return next((bindings[name] for name in wanted(held) if name in bindings), 0)
