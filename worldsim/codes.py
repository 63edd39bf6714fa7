"""From real frames to the codes of what was done between them.

What a held key does may come and go: a trigger that is held fires every few ticks, and frames tell
of nothing in between. A code that comes alone, and again at one interval, is such a key; it is
taken to be held from one time to the next.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldsim.dynamics.latent_actions import ActionEncoder, cost_volume
from worldsim.tokenizer import to_pixels

BATCH = 64  # frames at once: bounds the memory
ALONE = 0.95  # share of the ticks of a held key's code that have none beside them
REGULAR = 0.1  # share of its intervals that are the most frequent one
OFTEN = 10  # times that it is seen at least
SHORTEST = 4  # ticks: what comes sooner again is a code that flickers


@torch.inference_mode()
def infer_codes(
    encoder: ActionEncoder, frames: NDArray[np.uint8], latents: Tensor
) -> NDArray[np.int64]:
    """Frames (T, H, W, 3) and their latents (T, P, C) -> codes (T - 1,); code t led from frame t
    to frame t + 1. A code depends on frames t - 1, t and t + 1 alone."""
    device = encoder.codes.device
    found = [np.zeros(0, dtype=np.int64)]
    for begin in range(0, len(frames) - 1, BATCH):
        end = min(begin + BATCH, len(frames) - 1)
        pixels = to_pixels(torch.from_numpy(np.array(frames[begin : end + 1])).to(device))
        first = max(begin - 1, 0)
        z = latents[first : end + 1].to(device).float()
        now = z[begin - first : -1]
        before = z[:-2] if begin else torch.cat([z[:1], z[:-2]])
        logits = encoder(before, now, z[begin - first + 1 :], cost_volume(pixels[:-1], pixels[1:]))
        found.append(logits.argmax(dim=-1).cpu().numpy())
    return np.concatenate(found)


def find_holds(codes: Sequence[NDArray[np.int64]], count: int) -> list[int]:
    """Codes of episodes, (T,) each -> for each of `count` codes the ticks after which it comes
    again while its key is held, 0 for one that is there as long as its key is."""
    holds = []
    for code in range(count):
        places = [np.flatnonzero(episode == code) for episode in codes]
        intervals = np.concatenate([np.diff(p) for p in places] or [np.zeros(0, np.int64)])
        usual = int(np.bincount(intervals[intervals > 1], minlength=1).argmax())
        times = sum(map(len, places))
        is_lone = times - 2 * np.sum(intervals == 1) >= ALONE * times  # of a run of two, none is
        is_regular = np.sum(intervals == usual) >= max(REGULAR * len(intervals), OFTEN)
        holds.append(usual if is_lone and is_regular and usual >= SHORTEST else 0)
    return holds


def hold(codes: NDArray[np.int64], holds: Sequence[int]) -> NDArray[np.int64]:
    """Codes (T,), the gaps of at most `holds` ticks between two times of a held code filled."""
    filled = codes.copy()
    for code, longest in enumerate(holds):
        places = np.flatnonzero(codes == code)
        for begin, end in pairwise(places):
            if end - begin <= longest:
                filled[begin:end] = code
    return filled
