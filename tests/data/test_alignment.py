"""The control beside a frame is the one that led to it: not the one before, not the one after."""

from pathlib import Path

import numpy as np

from worldsim.data.recording import Recording
from worldsim.data.video import read_frames
from worldsim.evaluation.metrics import horizontal_flow
from worldsim.games.table import FORWARD_LEFT, FORWARD_RIGHT, TURN_LEFT, TURN_RIGHT

FIXTURE = next((Path(__file__).parents[1] / "data" / "doom-hall").glob("*.mkv"))
LAGS = range(-2, 3)  # ticks


def test_turns_explain_the_motion_of_the_picture_best_at_lag_zero() -> None:
    frames = read_frames(FIXTURE, (96, 128))
    controls = np.asarray(Recording.open(FIXTURE).controls)
    moved = np.sign(horizontal_flow(np.stack([frames[:-1], frames[1:]], axis=1)))  # 1, 2, ..
    turned = np.isin(controls, (TURN_LEFT, FORWARD_LEFT)).astype(float)
    turned -= np.isin(controls, (TURN_RIGHT, FORWARD_RIGHT))
    ticks = np.arange(3, len(frames) - 3)

    agreement = [np.corrcoef(moved[ticks - 1], turned[ticks + lag])[0, 1] for lag in LAGS]

    assert LAGS[int(np.argmax(agreement))] == 0
    assert max(agreement) > 0.5
