"""Is the imagined frame the real one? Gains over persistence, in dB, under the recorded controls.

    G(h)     = PSNR(real frame at h, imagined) - PSNR(real frame at h, last context frame)
    Delta(h) = PSNR(real at h, imagined under the true controls) - the same under random controls

All on the deterministic prediction (one flow step, no noise). G(1) is one step from a real context,
which is teacher-forced. Windows and controls are the same for every predictor, so rows compare in
pairs.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from worldsim.evaluation.footage import Window
from worldsim.evaluation.intervals import Measure, measure, ratio
from worldsim.evaluation.metrics import Frames, dynamic_psnr, psnr, sharpness
from worldsim.evaluation.predictors import Predictor

GAINS = (1, 4, 16, 64)
DELTA = 4
Ints = npt.NDArray[np.int64]


def gains(predictor: Predictor, windows: Sequence[Window], batch: int) -> dict[str, Measure]:
    """`g1, g4, g16, g64` and `dynpsnr_gain1`."""
    found: dict[int, list[float]] = {h: [] for h in GAINS}
    dynamic: list[float] = []
    for group in batches(windows, batch):
        seed = np.stack([w.seed_frame for w in group])
        controls = np.stack([w.future_controls(max(GAINS)) for w in group])
        for h, frame in enumerate(predictor.rollout(group, controls), start=1):
            if h not in GAINS:
                continue
            real = np.stack([w.future(h)[-1] for w in group])
            found[h].extend(psnr(real, frame) - psnr(real, seed))
            if h == 1:
                mine, copied = dynamic_psnr(frame, real, seed)
                dynamic.extend(mine - copied)
    units = [w.unit for w in windows]
    measures = {f"g{h}": measure(values, units) for h, values in found.items()}
    return measures | {"dynpsnr_gain1": measure(dynamic, units)}


def delta(
    predictor: Predictor, windows: Sequence[Window], num_controls: int, batch: int
) -> Measure:
    """Delta(4): how much worse the prediction gets under random controls."""
    rng = np.random.default_rng(4)
    losses: list[float] = []
    for group in batches(windows, batch):
        real = np.stack([w.future(DELTA)[-1] for w in group])
        true = np.stack([w.future_controls(DELTA) for w in group])
        wrong = rng.integers(num_controls, size=true.shape)
        both = np.concatenate([true, wrong])
        last = frames_at(predictor, [*group, *group], both, (DELTA,))[:, 0]
        count = len(group)
        losses.extend(psnr(real, last[:count]) - psnr(real, last[count:]))
    return measure(losses, [w.unit for w in windows])


def memory_gain(full: Measure, forgetful: Measure) -> Measure:
    """G(64) minus G(64) with the recurrent memory emptied every 16 frames, window by window."""
    return Measure(above=full.above - forgetful.above, unit=full.unit)


def tokenizer(
    windows: Sequence[Window],
    reconstruct: Callable[[Frames], Frames],
    reconstruct_cleared: Callable[[Frames], Frames] | None,
) -> dict[str, Measure]:
    """`ceiling_psnr`, `tokenizer_sharpness`, `ceiling_psnr_cleared` (cache emptied every frame).

    The last half of each context is graded: by then a streaming decoder has filled its cache.
    """
    level: list[float] = []
    cleared: list[float] = []
    sharp: list[tuple[float, float]] = []
    for window in windows:
        real = window.frames
        half = len(real) // 2
        copy = reconstruct(real)
        level.append(float(psnr(real[half:], copy[half:]).mean()))
        sharp.append((float(sharpness(copy[half:]).mean()), float(sharpness(real[half:]).mean())))
        if reconstruct_cleared is not None:
            alone = reconstruct_cleared(real)
            cleared.append(float(psnr(real[half:], alone[half:]).mean()))
    units = [w.unit for w in windows]
    above, below = zip(*sharp, strict=True)
    found = {
        "ceiling_psnr": measure(level, units),
        "tokenizer_sharpness": ratio(above, below, units),
    }
    return found | ({"ceiling_psnr_cleared": measure(cleared, units)} if cleared else {})


def frames_at(
    predictor: Predictor, windows: Sequence[Window], controls: Ints, ticks: Sequence[int]
) -> Frames:
    """The frames of each rollout at `ticks` (counted from 1), (N, len(ticks), H, W, 3)."""
    rollout = enumerate(predictor.rollout(windows, controls), start=1)
    return np.stack([frame for tick, frame in rollout if tick in ticks], axis=1)


def batches(windows: Sequence[Window], size: int) -> Iterator[Sequence[Window]]:
    """Consecutive groups of at most `size`."""
    for first in range(0, len(windows), size):
        yield windows[first : first + size]
