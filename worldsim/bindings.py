"""Which code is which control: by how it moves the picture, by hand, or from a few labels.

A code that nobody named is bound to its own number, as `code_3`.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worldsim.errors import MachineError
from worldsim.evaluation.tracks import assign
from worldsim.folder import WorldConfig, read_config, write_config
from worldsim.motion import Motion
from worldsim.training.card import write_card

CLEAR = 0.25  # pixels per tick: a smaller mean motion names nothing
APART = 0.05  # of the share of a code, that a pixel per tick between two motions is worth
NEVER = 1e3  # pixels per tick, from a code that was not found
NUMBERED = re.compile(r"code_\d+")


def bound(config: WorldConfig, bindings: Mapping[str, int]) -> WorldConfig:
    """`config` with these controls, control -> code, in place of its own; several may share a
    code, which is then named by the first of them. Raises ValueError for a code that is none."""
    count = config.dynamics.num_actions
    for control, code in bindings.items():
        if not 0 <= code < count:
            raise ValueError(f"{control}={code}: the code must be < {count}")
    named = {c: code for c, code in bindings.items() if not NUMBERED.fullmatch(c)}
    names = [next((c for c, k in named.items() if k == code), None) for code in range(count)]
    rest = {f"code_{code}": code for code, name in enumerate(names) if name is None}
    actions = [name or f"code_{code}" for code, name in enumerate(names)]
    return replace(config, actions=actions, bindings=named | rest)


def bind_in_folder(folder: Path, chosen: Mapping[str, int]) -> WorldConfig:
    """Write controls, control -> code, into config.json and the card of a world, beside what is
    bound; the config that it has then.

    Raises ValueError for a code that is none, MachineError if the folder cannot be written.
    """
    config = read_config(folder)
    kept = {c: code for c, code in config.bindings.items() if c not in chosen}
    config = bound(config, {**chosen, **kept})
    try:
        write_config(folder, config)
        write_card(folder, config)
    except OSError as error:  # the worlds of an installation may not be ours to change
        raise MachineError(f"{folder}: {error.strerror}; bind in a copy of it") from error
    return config


def bind_by_motion(motions: Sequence[Motion]) -> dict[str, int]:
    """A guess without labels: what moves the picture most to the right turns left, what widens it
    most goes forward, and so on; of the others, what moves it least does nothing.

    A control whose motion no code shows clearly is not bound.
    """
    measured = {
        "turn_left": [m.right for m in motions],
        "turn_right": [-m.right for m in motions],
        "forward": [m.nearer for m in motions],
        "backward": [-m.nearer for m in motions],
    }
    free = set(range(len(motions)))
    bindings: dict[str, int] = {}
    for control, values in measured.items():
        best = max(free, key=lambda code: values[code], default=None)
        if best is not None and values[best] > CLEAR:
            bindings[control] = best
            free.remove(best)
    if free:
        bindings["noop"] = min(free, key=lambda code: motions[code].size)
    return bindings


def bind_by_labels(
    share: NDArray[np.float64],
    use: NDArray[np.float64],
    controls: Sequence[Motion | None],
    codes: Sequence[Motion | None],
    names: Sequence[str],
) -> dict[str, int]:
    """A context-free dictionary in which keys do different things: of all ways to give each of C
    controls a code of its own the one with the largest sum of the controls' `share` (C, A) in the
    frames of their codes, less what `controls` and `codes` move the picture APART. A control for
    which no code is left gets the one that is seen with it most often; `use` (A,) says how often
    each code is found. What does not occur has the motion None; such a control is not bound.

    Bruce et al. 2024 give every control the code that is seen with it most often. Who holds the
    trigger mostly waits, and would be bound to waiting; and of the few frames that are labelled,
    fewer still are of each way to walk.
    """
    known = [control for control, motion in enumerate(controls) if motion is not None]
    apart = np.array([[_distance(controls[c], code) for code in codes] for c in known])
    pairs = dict(assign(APART * apart - share[known]))
    often = (share[known] * use).argmax(axis=1)
    return {names[c]: int(pairs.get(i, often[i])) for i, c in enumerate(known)}


def _distance(control: Motion | None, code: Motion | None) -> float:
    """In pixels per tick."""
    if control is None or code is None:
        return NEVER
    away = (control.right - code.right, control.down - code.down, control.nearer - code.nearer)
    return math.hypot(*away)


def listed(bindings: dict[str, int]) -> str:
    """For people."""
    return ", ".join(f"{control}={code}" for control, code in bindings.items())
