"""From real frames to the codes of what was done between them."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldsim.dynamics.latent_actions import ActionEncoder, cost_volume
from worldsim.tokenizer import to_pixels

BATCH = 64  # frames at once: bounds the memory


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
