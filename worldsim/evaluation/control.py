"""Does the picture do what the keys say? Two measures that look only at consequences.

    CFR   from one moment, every control is held for 4 tics in the game and in the model; a model
          frame counts when, of all real futures, the nearest one (mean squared error) is that of
          its own control; (CFR - chance) / (1 - chance)
    sign  turn_left and turn_right are held for 6 tics; the picture must move right and left;
          both or nothing

Copying the last frame earns exactly 0 in both. They do not ask the picture to look good.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from worldsim.evaluation.counterfactual import HOLD, TURN_TICS, TURNS, Branches
from worldsim.evaluation.fidelity import frames_at
from worldsim.evaluation.intervals import Measure, Missing, measure
from worldsim.evaluation.metrics import Frames, horizontal_flow
from worldsim.evaluation.predictors import Predictor

Ints = npt.NDArray[np.int64]


def retrieval(predictor: Predictor, branches: Sequence[Branches], batch: int) -> Measure | Missing:
    """CFR(4), normalized; states in which all controls lead to the same picture are left out."""
    telling = [b for b in branches if len(b.classes()) > 1]
    if not telling:
        return Missing("in none of the states does it matter what one does")
    scores: list[float] = []
    for group in _groups(telling, batch):
        guesses = _held(predictor, group, range(len(group[0].held)), (HOLD,))[:, :, 0]
        scores.extend(_retrieved(b, guess) for b, guess in zip(group, guesses, strict=True))
    return measure(scores, [b.window.unit for b in telling])


def sign(
    predictor: Predictor, branches: Sequence[Branches], controls: Sequence[str], batch: int
) -> Measure:
    """Share of states in which both turns move the picture the right way."""
    turns = [controls.index(name) for name in TURNS]
    right: list[float] = []
    for group in _groups(branches, batch):
        guesses = _held(predictor, group, turns, TURN_TICS)
        right.extend(
            float(turns_rightly(b.window.seed_frame, guess))
            for b, guess in zip(group, guesses, strict=True)
        )
    return measure(right, [b.window.unit for b in branches])


def real_sign(branches: Sequence[Branches]) -> Measure:
    """The sign test on the game's own branches, where it should be near 1."""
    right = [float(turns_rightly(b.window.seed_frame, b.turned)) for b in branches]
    return measure(right, [b.window.unit for b in branches])


def turns_rightly(seed: Frames, turned: Frames) -> bool:
    """Whether the picture moves right under turn_left (row 0) and left under turn_right (row 1)."""
    clips = np.concatenate([np.stack([seed, seed])[:, None], turned], axis=1)
    left, right = horizontal_flow(clips)
    return bool(left > 0 > right)


def _held(
    predictor: Predictor, group: Sequence[Branches], controls: Sequence[int], tics: Sequence[int]
) -> Frames:
    """The frames at `tics` of holding each control: (N, len(controls), len(tics), H, W, 3)."""
    windows = [b.window for b in group for _ in controls]
    plan: Ints = np.array([[c] * max(tics) for _ in group for c in controls], dtype=np.int64)
    seen = frames_at(predictor, windows, plan, tics)
    return seen.reshape(len(group), len(controls), *seen.shape[1:])


def _retrieved(branches: Branches, guesses: Frames) -> float:
    """CFR of one state, normalized; each class of equivalent controls has the same weight."""
    classes = branches.classes()
    futures = branches.held[[members[0] for members in classes]].astype(np.float32)
    hits = []
    for i, members in enumerate(classes):
        nearest = [
            int(np.argmin(np.mean((futures - guesses[m]) ** 2, axis=(1, 2, 3)))) for m in members
        ]
        hits.append(float(np.mean([n == i for n in nearest])))
    chance = 1 / len(classes)
    return (float(np.mean(hits)) - chance) / (1 - chance)


def _groups(branches: Sequence[Branches], batch: int) -> list[list[Branches]]:
    """States per forward, so that states times controls is about `batch`."""
    size = max(1, batch // len(branches[0].held)) if branches else 1
    return [list(branches[i : i + size]) for i in range(0, len(branches), size)]
