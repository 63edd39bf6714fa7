"""Keyframes: real frames that a world keeps whole, for what motion cannot tell.

What turns into view was not in the last picture, and the head has to make it up. Made up token by
token it is rubble, and the next tick goes on from rubble: after two seconds there is no hall left.
So a world keeps the latents of N frames of its footage. A sample is compared with them as a whole,
and the one that is most like it replaces some of what is new in it:

    keyframe = argmin_n |(z - mean) V - (z_n - mean) V|       V: the main axes of all latents

The head says what should come into view, the keyframe what that looks like.

It also replaces tokens that are like nothing that the footage has ever shown in their place: a gun
that has smeared, a wall that has turned to rubble. How unlike is too much depends on the place and
on what is there, since no two pieces of a wall are alike, and all guns are. So the distance to the
nearest keyframe is measured by how far that one is from its own nearest (a local outlier factor,
after Breunig et al. 2000):

    unlike(z, p) = |z_p - z_mp|^2 / min_n |z_np - z_mp|^2     m: the nearest keyframe at place p

and LIKELY of the tokens of real frames stay below the limit. The cost is fixed, N x (AXES + P x
TOKEN_AXES) products per tick (docs/decisions/0014).

Shapes: B batch, P tokens, C channels, N keyframes, T ticks.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

AXES = 64  # numbers by which frames are told apart
TOKEN_AXES = 16  # and tokens
LIKELY = 0.98
LEAST = 0.3  # squared distance of two tokens that look the same
STEPS = 32.0  # per unit, in which latents are kept: 8 bits, up to 4 times their usual size
POOL = 24_000  # frames whose axes are found


def packed(latents: Tensor) -> Tensor:
    """Latents in 8 bits, int8."""
    return (latents * STEPS).round().clamp(-127, 127).to(torch.int8)


def unpacked(latents: Tensor, dtype: torch.dtype) -> Tensor:
    """The inverse of `packed`, but for what was rounded."""
    return latents.to(dtype) / STEPS


class Keyframes(nn.Module):
    latents: Tensor
    keys: Tensor
    axes: Tensor
    mean: Tensor
    token_axes: Tensor
    token_keys: Tensor
    apart: Tensor
    limit: Tensor

    def __init__(self, count: int, tokens: int, channels: int) -> None:
        """`count` is N."""
        super().__init__()
        size = tokens * channels
        self.register_buffer("latents", torch.zeros(count, tokens, channels, dtype=torch.int8))
        self.register_buffer("keys", torch.zeros(count, AXES))
        self.register_buffer("axes", torch.zeros(size, AXES))
        self.register_buffer("mean", torch.zeros(size))
        axes = min(TOKEN_AXES, channels)
        self.register_buffer("token_axes", torch.zeros(channels, axes))
        self.register_buffer("apart", torch.ones(tokens, count))
        self.register_buffer("limit", torch.tensor(float("inf")))
        self.register_buffer("token_keys", torch.zeros(tokens, axes + 1, count), persistent=False)
        self.register_load_state_dict_post_hook(_find_token_keys_of)  # type: ignore[no-untyped-call]

    def forward(self, latent: Tensor, taken: Tensor) -> Tensor:
        """`latent` (B, P, C), and in the tokens that are `taken`, bool (B, P), or too unlike all
        keyframes, the keyframe that is most like it as a whole: (B, P, C)."""
        taken = taken | (self.unlike(latent) > self.limit)
        key = (latent.flatten(1) - self.mean) @ self.axes
        far = self.keys.square().sum(dim=1) - 2 * key @ self.keys.T
        kept = unpacked(self.latents[far.argmin(dim=1)], latent.dtype)
        return torch.where(taken[..., None], kept, latent)

    def unlike(self, latent: Tensor) -> Tensor:
        """(B, P, C) -> how unlike all keyframes each token is, (B, P), about 1 in real frames."""
        key = (latent @ self.token_axes).transpose(0, 1)  # (P, B, axes)
        # |k|^2 - 2 q k in one product: it stands below each k
        query = torch.cat([-2 * key, torch.ones_like(key[..., :1])], dim=-1)
        nearest, which = (query @ self.token_keys).min(dim=-1)
        distance = (nearest + key.square().sum(dim=-1)).clamp(min=0)
        return (distance / self.apart.gather(1, which)).T

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
        self.latents.copy_(packed(pool[rows]))
        self.mean.copy_(mean)
        self.axes.zero_()[:, :known].copy_(axes)
        self.keys.copy_((flat[rows] - mean) @ self.axes)
        self._measure_tokens(pool, pool[(rows[1:] + rows[:-1]) // 2])

    def _measure_tokens(self, pool: Tensor, others: Tensor) -> None:
        """How far apart the tokens of keyframes are, and how unlike them those of `others`."""
        flat = pool.flatten(0, 1)
        values, vectors = torch.linalg.eigh(flat.T @ flat)
        self.token_axes.copy_(vectors[:, values.argsort()[-self.token_axes.shape[1] :]])
        self._find_token_keys()
        for place, keys in enumerate(self.token_keys[:, :-1].transpose(1, 2)):
            between = torch.cdist(keys, keys).square().fill_diagonal_(torch.inf)
            self.apart[place] = between.amin(dim=1).clamp(min=LEAST)
        self.limit.copy_(
            self.unlike(others).flatten().kthvalue(int(LIKELY * others[..., 0].numel())).values
        )

    def _find_token_keys(self) -> None:
        kept = unpacked(self.latents, self.token_axes.dtype)
        keys = (kept @ self.token_axes).permute(1, 2, 0)
        self.token_keys.copy_(torch.cat([keys, keys.square().sum(dim=1, keepdim=True)], dim=1))


def _find_token_keys_of(keyframes: Keyframes, _: object) -> None:
    keyframes._find_token_keys()
