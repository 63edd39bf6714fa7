"""Which code is which control: by how it moves the picture, by hand, or from a few labels.

A code that nobody named is bound to its own number, as `code_3`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worldsim.errors import MachineError
from worldsim.folder import WorldConfig, read_config, write_config
from worldsim.motion import Motion
from worldsim.training.card import write_card

CLEAR = 0.25  # pixels per tick: a smaller mean motion names nothing
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
    controls: NDArray[np.int64],
    codes: NDArray[np.int64],
    names: Sequence[str],
    use: NDArray[np.float64],
) -> dict[str, int]:
    """A context-free dictionary. A control gets a code that means it: more than half of that code's
    frames are of this control; of several such codes the clearest. If there is none, it gets the
    code that is seen with it most often, as in Bruce et al. 2024; but who holds the trigger mostly
    waits, and a trigger that was bound so would be bound to waiting.

    `controls`, indices into `names`, and `codes` are (N,), drawn as one likes within each code;
    `use` (A,) says how often each code is found. A control that does not occur is not bound."""
    counts = np.zeros((len(names), len(use)))
    np.add.at(counts, (controls, codes), 1.0)
    # one frame more of each code, of any control: a code that was seen once is not yet clear
    share = (counts + 1 / len(names)) / (counts.sum(axis=0) + 1)
    share[counts == 0] = 0.0
    bindings = {}
    for control in np.flatnonzero(counts.any(axis=1)).tolist():
        meant = np.where(share[control] > 0.5, share[control], 0.0)
        score = meant if meant.any() else share[control] * use
        bindings[names[control]] = int(score.argmax())
    return bindings


def listed(bindings: dict[str, int]) -> str:
    """For people."""
    return ", ".join(f"{control}={code}" for control, code in bindings.items())
