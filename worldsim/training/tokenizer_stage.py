"""Training of the tokenizer on streams of real frames.

The decoder's cache is carried along each lane, so that the decoder is trained on its own pictures,
as it will be used; at a jump the cache is cleared, or holds the real frame before, as it does at
the start of a world. The latents get noise, so that the decoder forgives what the dynamics will
get wrong.
"""

import numpy as np
import torch
from torch import Tensor

from worldsim.tokenizer import DecoderCache, Tokenizer, to_pixels
from worldsim.training.loop import matrix_optimizers, take_step
from worldsim.training.paint import PaintLoss
from worldsim.training.streams import Streams

MATRICES = ("layers.", "coarse", "middle", "fine", "read", "carry")
CRITIC_FROM = 0.4  # of the way: painting must be about right before texture is judged
LATENT_NOISE = 0.3  # at most, against tokens of unit root mean square


class TokenizerStage:
    name = "tokenizer"

    def __init__(self, model: Tokenizer, streams: Streams, *, rate: float = 2e-3) -> None:
        """`streams` yields frames, uint8."""
        self.model = model
        self.optimizers = matrix_optimizers(model, rate, inside=MATRICES)
        self._paint = PaintLoss()
        self._streams = streams
        self._cache: DecoderCache | None = None

    def update(self, progress: float) -> dict[str, Tensor]:
        chunk = self._streams.next()
        real = to_pixels(torch.from_numpy(np.asarray(chunk.arrays[0])))
        jumped = torch.from_numpy(chunk.jumped)
        with torch.autocast("cpu", torch.bfloat16):
            latents = self.model.encode(real)
            cache = self._start(real[:, 0], latents[:, 0], jumped)
            noisy = latents[:, 1:] + self._noise(latents[:, 1:])
            painted, cache = self.model.decode(noisy, cache)
        self._cache = DecoderCache(cache.picture.detach(), cache.latent.detach())
        losses = self._paint(
            painted.flatten(0, 1), real[:, 1:].flatten(0, 1), judged=progress >= CRITIC_FROM
        )
        take_step(self.optimizers, losses["paint"], self.model)
        return {k: v.detach() for k, v in losses.items()}

    def _start(self, picture: Tensor, latent: Tensor, jumped: Tensor) -> DecoderCache:
        """Carry each lane's cache; a lane that jumped starts cleared or from the real frame."""
        if self._cache is None:
            self._cache = self.model.decoder.empty_cache(len(picture))
        cleared = (torch.rand(len(picture)) < 0.5).float()
        begin_picture = picture * (1 - cleared)[:, None, None, None]
        begin_latent = latent * (1 - cleared)[:, None, None]
        return DecoderCache(
            picture=torch.where(jumped[:, None, None, None], begin_picture, self._cache.picture),
            latent=torch.where(jumped[:, None, None], begin_latent, self._cache.latent),
        )

    def _noise(self, latents: Tensor) -> Tensor:
        """Gaussian noise whose level differs from lane to lane; none for half of them."""
        level = (torch.rand(len(latents), 1, 1, 1) * 2 - 1).clamp(min=0) * LATENT_NOISE
        return level * torch.randn_like(latents)
