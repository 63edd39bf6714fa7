"""The meaning of learned codes, from a few labelled frames."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from worldsim.bindings import bind_by_labels, bound
from worldsim.errors import DataError, WorldsimError
from worldsim.folder import read_config, write_config
from worldsim.training.card import write_card
from worldsim.training.footage import look, read_footage
from worldsim.training.labels import only_labelled, read_labels
from worldsim.world import World

LABELS = 200  # frames, unless told otherwise


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What the labelled frames said."""

    labels: int  # how many there were
    bindings: dict[str, int]  # control -> code
    agreement: float  # share of the labelled frames whose code is that of their control


def fit_bindings(folder: Path, labelled: Path, cache: Path, *, labels: int = LABELS) -> Fit:
    """Bind the controls of the recordings in `labelled` to the codes of the world in `folder`, by
    `labels` of their frames, drawn at random, and write it into config.json and the card.

    Raises DataError if there are no labels, WorldsimError if the world has no learned codes.
    """
    world = World.load(folder)
    if not world.config.learned_actions:
        raise WorldsimError(f"{world.name}: its actions are labelled; there is no code to fit")
    found = only_labelled(look(labelled))
    footage = read_labels(read_footage(found, world.frame_size, world.fps, cache, min_frames=2))
    if footage.axes:
        raise DataError(f"{labelled}: the recordings have axes; codes are named by controls")
    places = [(e, t) for e, a in enumerate(footage.actions) for t in np.flatnonzero(a[1:] >= 0) + 1]
    if not places:
        raise DataError(f"{labelled}: no frame here has a known control")
    chosen = np.random.default_rng(0).permutation(len(places))[:labels]
    controls, codes = [], []
    for episode, t in (places[i] for i in chosen):
        inferred = world.infer_actions(np.array(footage.frames[episode][max(t - 2, 0) : t + 1]))
        assert inferred is not None, "the world has learned its actions"
        codes.append(int(inferred[-1]))
        controls.append(int(footage.actions[episode][t]))
    bindings = bind_by_labels(np.array(controls), np.array(codes), footage.controls)
    config = bound(read_config(folder), bindings)
    write_config(folder, config)
    write_card(folder, config)
    told = [bindings[footage.controls[c]] for c in controls]
    agreement = float(np.mean(np.array(told) == np.array(codes)))
    return Fit(labels=len(chosen), bindings=dict(config.bindings), agreement=agreement)
