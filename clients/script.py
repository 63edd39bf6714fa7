"""Games by script: which control is held for how many ticks."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path

from worldsim.axes import Action, Axis, wrong_axis
from worldsim.errors import DataError

Script = list[tuple[Action, int]]  # (action, ticks)

# A minute that shows what there is to see: turns and returns, walks, shots, both at once.
BUILT_IN = (
    *(("noop", 1.0), ("turn_left", 2.0), ("noop", 0.5), ("turn_right", 4.0), ("turn_left", 2.0)),
    *(("attack", 2.0), ("forward", 3.0), ("backward", 3.0), ("forward_left", 2.0)),
    *(("forward_right", 2.0), ("attack", 1.5), ("turn_right", 3.0), ("noop", 1.0)),
    *(("forward", 3.0), ("turn_left", 3.0)),
)


def built_in(
    bindings: dict[str, int], num_actions: int, fps: float, axes: Sequence[Axis] = ()
) -> Script:
    """The script of the package, in the controls that this world has, if those are half of them;
    else each code in turn, or each axis at both of its ends."""
    known: list[tuple[Action, float]]
    known = [(bindings[name], seconds) for name, seconds in BUILT_IN if name in bindings]
    if axes:
        known = [(alone(axes, {a.name: end}), 1.0) for a in axes for end in (a.low, a.high)]
    elif 2 * len({code for code, _ in known}) < num_actions:
        known = [(code, 2.0) for code in range(num_actions)]
    return [(action, max(1, round(seconds * fps))) for action, seconds in known]


def read_script(path: Path, bindings: dict[str, int], axes: Sequence[Axis] = ()) -> Script:
    """Read lines `CONTROL TICKS`; empty lines and what follows a # do not count. In a world with
    axes a control is `AXIS=VALUE`, or several of them with commas between; the others rest.

    Raises DataError, with the line, for a control that the world does not have.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a script: {error}") from error
    script = [
        _entry(f"{path} line {number}", words, bindings, axes)
        for number, line in enumerate(lines, 1)
        if (words := line.split("#")[0].split())
    ]
    if not script:
        raise DataError(f"{path}: no line `CONTROL TICKS` in it")
    return script


def _entry(
    place: str, words: list[str], bindings: dict[str, int], axes: Sequence[Axis]
) -> tuple[Action, int]:
    if len(words) != 2 or not words[1].isdecimal() or int(words[1]) < 1:
        raise DataError(f"{place}: expected `CONTROL TICKS`, got {' '.join(words)!r}")
    if axes:
        return _vector(place, words[0], axes), int(words[1])
    if words[0] not in bindings:
        known = ", ".join(bindings)
        raise DataError(f"{place}: unknown control {words[0]!r}; this world has {known}")
    return bindings[words[0]], int(words[1])


def _vector(place: str, text: str, axes: Sequence[Axis]) -> tuple[float, ...]:
    names = [axis.name for axis in axes]
    try:
        values = {name: float(value) for name, value in (p.split("=") for p in text.split(","))}
    except ValueError as error:
        raise DataError(f"{place}: expected AXIS=VALUE, got {text!r}") from error
    unknown = [name for name in values if name not in names]
    if unknown:
        raise DataError(f"{place}: unknown axis {unknown[0]!r}; this world has {', '.join(names)}")
    action = alone(axes, values)
    wrong = wrong_axis(action, axes)
    if wrong:
        raise DataError(f"{place}: {wrong}")
    return action


def alone(axes: Sequence[Axis], values: Mapping[str, float]) -> tuple[float, ...]:
    """The axes with these `values`, all others at rest."""
    return tuple(values.get(axis.name, axis.rest) for axis in axes)


def length(script: Script) -> int:
    """Ticks of one run through the script."""
    return sum(ticks for _, ticks in script)


def actions(script: Script, count: int) -> Iterator[Action]:
    """`count` actions, from the start again when the script is over."""
    held = (action for action, ticks in cycle(script) for _ in range(ticks))
    return islice(held, count)
