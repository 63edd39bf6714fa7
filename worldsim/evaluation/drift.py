"""Do imagined frames move and look like the real ones, after a while, under the same controls?

On sampled rollouts (two flow steps), because a deterministic prediction is blurred by design.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from worldsim.evaluation.fidelity import batches
from worldsim.evaluation.footage import Window
from worldsim.evaluation.intervals import Measure, ratio
from worldsim.evaluation.metrics import flow_magnitude, sharpness
from worldsim.evaluation.predictors import Predictor

MOTION_FRAMES = 256
SHARPNESS_FRAME = 64
FLOW_EVERY = 4  # block matching is the expensive part; every fourth pair of frames is plenty

Floats = npt.NDArray[np.float64]


def motion_and_sharpness(
    predictor: Predictor, windows: Sequence[Window], real_flow: Floats, batch: int
) -> dict[str, Measure]:
    """`motion_ratio` over 256 frames (block-matching flow) and `sharpness_64`.

    `real_flow` (N,) is what `flow_of_real` found in the same windows.
    """
    flow: list[Floats] = []
    sharp: list[tuple[Floats, Floats]] = []
    for group in batches(windows, batch):
        made = np.zeros(len(group))
        before = np.stack([w.seed_frame for w in group])
        controls = np.stack([w.future_controls(MOTION_FRAMES) for w in group])
        for tick, frame in enumerate(predictor.rollout(group, controls), start=1):
            if tick % FLOW_EVERY == 0:
                made += flow_magnitude(before, frame)
            if tick == SHARPNESS_FRAME:
                truth = np.stack([w.future(tick)[-1] for w in group])
                sharp.append((sharpness(frame), sharpness(truth)))
            before = frame
        flow.append(made)
    units = [w.unit for w in windows]
    above, below = (np.concatenate(part) for part in zip(*sharp, strict=True))
    return {
        "motion_ratio": ratio(np.concatenate(flow), real_flow, units),
        "sharpness_64": ratio(above, below, units),
    }


def flow_of_real(windows: Sequence[Window]) -> Floats:
    """Summed flow of the real frames after each window, at the same pairs of frames: (N,)."""
    total = np.zeros(len(windows))
    for i, window in enumerate(windows):
        ticks = window.now + np.arange(FLOW_EVERY, MOTION_FRAMES + 1, FLOW_EVERY)
        frames = window.footage.frames
        total[i] = flow_magnitude(frames[ticks - 1], frames[ticks]).sum()
    return total
