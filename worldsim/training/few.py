"""The meaning of learned codes, from a few labelled frames."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worldsim.bindings import bind_by_labels, bound
from worldsim.errors import DataError, WorldsimError
from worldsim.folder import read_config, write_config
from worldsim.motion import PAIRS, Motion, mean_motion
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
    `labels` of their frames, and write it into config.json and the card. Whose labels are read is
    drawn at random, half of the frames as they come, the others of all codes alike.

    Raises DataError if there are no labels, WorldsimError if the world has no learned codes.
    """
    world = World.load(folder)
    if not world.config.learned_actions:
        raise WorldsimError(f"{world.name}: its actions are labelled; there is no code to fit")
    found = only_labelled(look(labelled))
    footage = read_labels(read_footage(found, world.frame_size, world.fps, cache, min_frames=2))
    if footage.axes:
        raise DataError(f"{labelled}: the recordings have axes; codes are named by controls")
    frames, controls, codes = _told_and_inferred(world, footage)
    if not len(controls):
        raise DataError(f"{labelled}: no frame here has a known control")
    use = np.bincount(codes, minlength=world.num_actions) / len(codes)
    moved = [_motion(footage, frames[codes == code]) for code in range(world.num_actions)]
    chosen = chosen_for_labels(codes, labels)
    frames, controls, codes = frames[chosen], controls[chosen], codes[chosen]
    counts = np.zeros((len(footage.controls), world.num_actions))
    np.add.at(counts, (controls, codes), 1.0)
    # one frame more of each code, of any control: a code that was seen once is not yet clear
    share = (counts + 1 / len(counts)) / (counts.sum(axis=0) + 1)
    meant = [_motion(footage, frames[controls == control]) for control in range(len(counts))]
    bindings = bind_by_labels(share, use, meant, moved, footage.controls)
    config = bound(read_config(folder), bindings)
    write_config(folder, config)
    write_card(folder, config)
    told = np.array([bindings[footage.controls[c]] for c in controls])
    agreement = float(np.mean(told == codes))
    return Fit(labels=len(chosen), bindings=dict(config.bindings), agreement=agreement)


def _told_and_inferred(
    world: World, footage: Footage
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Frames whose control is known, in random order: episode and tick (N, 2), control and inferred
    code (N,); of all such frames, or of POOL and a few more where there are many."""
    rng = np.random.default_rng(0)
    lengths = [len(f) for f in footage.frames]
    pieces = [(e, s) for e, length in enumerate(lengths) for s in range(1, length, PIECE)]
    rows = [np.zeros((0, 4), np.int64)]
    for e, start in (pieces[i] for i in rng.permutation(len(pieces))):
        told = footage.actions[e][start : start + PIECE]
        first = max(start - 2, 0)
        inferred = world.infer_actions(np.array(footage.frames[e][first : start + len(told)]))
        assert inferred is not None, "the world has learned its actions"
        ticks = np.arange(start, start + len(told))
        found = [np.full(len(told), e), ticks, told, inferred[start - first - 1 :]]
        rows.append(np.stack(found, axis=1)[told >= 0])
        if sum(map(len, rows)) >= POOL:
            break
    table = rng.permutation(np.concatenate(rows))
    return table[:, :2], table[:, 2], table[:, 3]


def _motion(footage: Footage, frames: NDArray[np.int64]) -> Motion | None:
    """How the picture usually moves in `frames`, episode and tick (N, 2), None if there are none:
    the median, since among a few frames one fast one would drown the others."""
    if not len(frames):
        return None
    pairs = [footage.frames[e][t - 1 : t + 1][None] for e, t in frames[:PAIRS]]
    moved = [mean_motion(pair[:, 0], pair[:, 1]) for pair in pairs]
    median = np.median([(m.right, m.down, m.nearer) for m in moved], axis=0).tolist()
    return Motion(right=median[0], down=median[1], nearer=median[2])


def chosen_for_labels(codes: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Places of `count` codes, of all if there are fewer: half as they come, the others one of each
    code in turn."""
    first = np.arange(min(count - count // 2, len(codes)))
    nth = np.zeros(len(codes), np.int64)
    for code in np.unique(codes):
        nth[codes == code] = np.arange(np.sum(codes == code))
    nth[first] = -1
    chosen: NDArray[np.int64] = np.argsort(nth, kind="stable")[:count]
    return chosen
