"""Keyframes: real frames that a world keeps whole, for what motion cannot tell.

What turns into view was not in the last picture, and the head has to make it up. Made up token by
token it is rubble, and the next tick goes on from rubble: after two seconds there is no hall left.
So a world keeps the latents of N frames of its footage. A sample is compared with them as a whole,
and some of what is new in it is taken from the one that is most like it:

    keyframe = argmin_n |(z - mean) V - (z_n - mean) V|       V: the main axes of all latents

The head says what should come into view, the keyframe what that looks like. The cost is fixed, N x
AXES products per tick (docs/decisions/0014).

Shapes: B batch, P tokens, C channels, N keyframes, T ticks.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

AXES = 64  # numbers by which frames are told apart
STEPS = 32.0  # per unit, in which latents are kept: 8 bits, up to 4 times their usual size
POOL = 24_000  # frames whose axes are found


class Keyframes(nn.Module):
    latents: Tensor
    keys: Tensor
    axes: Tensor
    mean: Tensor

    def __init__(self, count: int, tokens: int, channels: int) -> None:
        """`count` is N."""
        super().__init__()
        size = tokens * channels
        self.register_buffer("latents", torch.zeros(count, tokens, channels, dtype=torch.int8))
        self.register_buffer("keys", torch.zeros(count, AXES))
        self.register_buffer("axes", torch.zeros(size, AXES))
        self.register_buffer("mean", torch.zeros(size))

    def forward(self, latent: Tensor, taken: Tensor) -> Tensor:
        """`latent` (B, P, C), and in the tokens that are `taken`, bool (B, P), the keyframe that is
        most like it: (B, P, C)."""
        key = (latent.flatten(1) - self.mean) @ self.axes
        far = self.keys.square().sum(dim=1) - 2 * key @ self.keys.T
        kept = self.latents[far.argmin(dim=1)].to(latent.dtype) / STEPS
        return torch.where(taken[..., None], kept, latent)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was chosen yet."""
        return not bool(self.axes.any())

    @torch.no_grad()
    def choose(self, footage: Sequence[NDArray[np.float16]]) -> None:
        """Fill it with frames of `footage`, latents (T, P, C) per episode, at equal distances.

        Those that are most unlike each other would be explosions (docs/log.md).
        """
        every = max(1, sum(len(e) for e in footage) // POOL)
        pool = torch.from_numpy(np.concatenate([np.asarray(e[::every]) for e in footage])).float()
        flat = pool.flatten(1)
        mean = flat.mean(dim=0)
        known = min(AXES, *flat.shape)
        axes = torch.pca_lowrank(flat - mean, q=known, niter=2)[2]
        rows = torch.linspace(0, len(pool) - 1, len(self.keys)).round().long()
        self.latents.copy_((pool[rows] * STEPS).round().clamp(-127, 127))
        self.mean.copy_(mean)
        self.axes.zero_()[:, :known].copy_(axes)
        self.keys.copy_((flat[rows] - mean) @ self.axes)
