"""How much of the grain that a loss took from what is painted `sharpening` gives back.

A decoder that is graded by distances paints the mean of what might be there, and a mean has less
grain than any of it. Soft pictures are moved, seen and painted again, in play, until nothing is
left that could be a wall: all rollouts that failed did so by that (docs/log.md, 2026-11-24).
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from worldsim.evaluation.metrics import sharpness
from worldsim.tokenizer import Tokenizer, to_frames, to_pixels
from worldsim.training.device import device_of

GRAIN = 0.85  # of the real variance of the Laplacian; all of it would cost another third of a dB
LEVELS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)  # more makes pictures of noise out of bad paint
CLIPS = 32
TICKS = 24  # of a clip, of which the first half is not looked at: it begins with a gray picture


@torch.no_grad()
def sharpen(tokenizer: Tokenizer, episodes: Sequence[NDArray[np.uint8]]) -> float:
    """Set and return the least of LEVELS at which what is painted of the episodes (T, H, W, 3) has
    GRAIN, the most if none does; leaves it as it is if no episode is long enough to tell."""
    sharpening = tokenizer.decoder.sharpening
    clips = _clips(episodes)
    if not len(clips):
        return float(sharpening)
    pixels = to_pixels(torch.from_numpy(clips)).to(device_of(tokenizer))
    latents = tokenizer.encode(pixels)
    seen = sharpness(clips[:, TICKS // 2 :]).mean()
    for level in LEVELS:
        sharpening.fill_(level)
        painted, _ = tokenizer.decode(latents, tokenizer.decoder.cleared(len(clips)))
        made = sharpness(to_frames(painted[:, TICKS // 2 :]).cpu().numpy()).mean()
        if made >= GRAIN * seen:
            break
    return level


def _clips(episodes: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """(N, TICKS, H, W, 3), N at most CLIPS, evenly out of all episodes."""
    starts = [(e, t) for e in episodes for t in range(0, len(e) - TICKS + 1, TICKS)]
    picked = starts[:: max(1, -(-len(starts) // CLIPS))]
    return np.array([e[t : t + TICKS] for e, t in picked], dtype=np.uint8)
