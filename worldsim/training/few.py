"""The meaning of learned codes, from a few labelled frames."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worldsim.bindings import bind_by_labels, bound
from worldsim.errors import DataError, WorldsimError
from worldsim.folder import read_config, write_config
from worldsim.training.card import write_card
from worldsim.training.footage import Footage, look, read_footage
from worldsim.training.labels import only_labelled, read_labels
from worldsim.world import World

LABELS = 200  # frames, unless told otherwise
POOL = 8000  # frames of which they are chosen, about
PIECE = 500  # frames in a row that are looked at


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What the labelled frames said."""

    labels: int  # how many there were
    bindings: dict[str, int]  # control -> code
    agreement: float  # share of the labelled frames whose code is that of their control


def fit_bindings(folder: Path, labelled: Path, cache: Path, *, labels: int = LABELS) -> Fit:
    """Bind the controls of the recordings in `labelled` to the codes of the world in `folder`, by
    `labels` of their frames, and write it into config.json and the card. Which frames' labels are
    read is drawn at random, as many of each code as there are: what is done rarely counts as much.

    Raises DataError if there are no labels, WorldsimError if the world has no learned codes.
    """
    world = World.load(folder)
    if not world.config.learned_actions:
        raise WorldsimError(f"{world.name}: its actions are labelled; there is no code to fit")
    found = only_labelled(look(labelled))
    footage = read_labels(read_footage(found, world.frame_size, world.fps, cache, min_frames=2))
    if footage.axes:
        raise DataError(f"{labelled}: the recordings have axes; codes are named by controls")
    controls, codes = _told_and_inferred(world, footage)
    if not len(controls):
        raise DataError(f"{labelled}: no frame here has a known control")
    use = np.bincount(codes, minlength=world.num_actions) / len(codes)
    chosen = evenly(codes, labels)
    controls, codes = controls[chosen], codes[chosen]
    bindings = bind_by_labels(controls, codes, footage.controls, use)
    config = bound(read_config(folder), bindings)
    write_config(folder, config)
    write_card(folder, config)
    told = np.array([bindings[footage.controls[c]] for c in controls])
    agreement = float(np.mean(told == codes))
    return Fit(labels=len(chosen), bindings=dict(config.bindings), agreement=agreement)


def _told_and_inferred(
    world: World, footage: Footage
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Control and inferred code of frames whose control is known, (N,) each, in random order: of
    all, or of POOL and a few more where there are many."""
    rng = np.random.default_rng(0)
    lengths = [len(f) for f in footage.frames]
    pieces = [(e, s) for e, length in enumerate(lengths) for s in range(1, length, PIECE)]
    controls, codes = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for e, start in (pieces[i] for i in rng.permutation(len(pieces))):
        told = footage.actions[e][start : start + PIECE]
        first = max(start - 2, 0)
        inferred = world.infer_actions(np.array(footage.frames[e][first : start + len(told)]))
        assert inferred is not None, "the world has learned its actions"
        controls.append(told[told >= 0])
        codes.append(inferred[start - first - 1 :][told >= 0])
        if sum(map(len, codes)) >= POOL:
            break
    order = rng.permutation(sum(map(len, codes)))
    return np.concatenate(controls)[order], np.concatenate(codes)[order]


def evenly(codes: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Places of the first `count` codes, taking one of each in turn; all places, if fewer."""
    nth = np.zeros(len(codes), np.int64)
    for code in np.unique(codes):
        nth[codes == code] = np.arange(np.sum(codes == code))
    chosen: NDArray[np.int64] = np.argsort(nth, kind="stable")[:count]
    return chosen
