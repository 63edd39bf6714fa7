"""Games by script: which control is held for how many ticks."""

from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

from worldsim.errors import DataError

Script = list[tuple[int, int]]  # (action, ticks)

# A minute that shows what there is to see: turns and returns, walks, shots, both at once.
BUILT_IN = (
    *(("noop", 1.0), ("turn_left", 2.0), ("noop", 0.5), ("turn_right", 4.0), ("turn_left", 2.0)),
    *(("attack", 2.0), ("forward", 3.0), ("backward", 3.0), ("forward_left", 2.0)),
    *(("forward_right", 2.0), ("attack", 1.5), ("turn_right", 3.0), ("noop", 1.0)),
    *(("forward", 3.0), ("turn_left", 3.0)),
)


def built_in(bindings: dict[str, int], num_actions: int, fps: float) -> Script:
    """The script of the package, in the controls that this world has; else each code in turn."""
    known = [(bindings[name], seconds) for name, seconds in BUILT_IN if name in bindings]
    if not known:
        known = [(code, 2.0) for code in range(num_actions)]
    return [(action, max(1, round(seconds * fps))) for action, seconds in known]


def read_script(path: Path, bindings: dict[str, int]) -> Script:
    """Read lines `CONTROL TICKS`; empty lines and what follows a # do not count.

    Raises DataError, with the line, for a control that the world does not have.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a script: {error}") from error
    script = [
        _entry(f"{path} line {number}", words, bindings)
        for number, line in enumerate(lines, 1)
        if (words := line.split("#")[0].split())
    ]
    if not script:
        raise DataError(f"{path}: no line `CONTROL TICKS` in it")
    return script


def _entry(place: str, words: list[str], bindings: dict[str, int]) -> tuple[int, int]:
    if len(words) != 2 or not words[1].isdecimal() or int(words[1]) < 1:
        raise DataError(f"{place}: expected `CONTROL TICKS`, got {' '.join(words)!r}")
    if words[0] not in bindings:
        known = ", ".join(bindings)
        raise DataError(f"{place}: unknown control {words[0]!r}; this world has {known}")
    return bindings[words[0]], int(words[1])


def length(script: Script) -> int:
    """Ticks of one run through the script."""
    return sum(ticks for _, ticks in script)


def actions(script: Script, count: int) -> Iterator[int]:
    """`count` actions, from the start again when the script is over."""
    held = (action for action, ticks in cycle(script) for _ in range(ticks))
    return islice(held, count)
