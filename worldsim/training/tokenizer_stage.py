"""Training of the tokenizer on streams of real frames.

The decoder's cache is carried along each lane, so that the decoder is trained on its own pictures,
as it will be used; at a jump the cache is cleared, or holds the real frame before, as it does at
the start of a world. The latents get noise, so that the decoder forgives what the dynamics will
get wrong.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from worldsim.tokenizer import DecoderCache, Tokenizer, to_pixels
from worldsim.tokenizer.losses import (
    Critic,
    critic_loss,
    feature_loss,
    reconstruction_loss,
)
from worldsim.training.loop import matrix_optimizers
from worldsim.training.streams import Streams

CRITIC_FROM = 0.4  # of the way: painting must be about right before texture is judged
CRITIC_WEIGHT = 0.04
FEATURE_WEIGHT = 0.2
LATENT_NOISE = 0.3  # at most, against tokens of unit root mean square


class TokenizerStage:
    name = "tokenizer"

    def __init__(self, model: Tokenizer, streams: Streams, *, rate: float = 1.2e-3) -> None:
        self.model = model.to(memory_format=torch.channels_last)
        self.critic = Critic().to(memory_format=torch.channels_last)
        self.optimizers: list[torch.optim.Optimizer] = [
            *matrix_optimizers(
                model, rate, inside=("layers.", "coarse", "middle", "fine", "read", "carry")
            ),
            torch.optim.AdamW(self.critic.parameters(), 4e-4, betas=(0.5, 0.98), weight_decay=0),
        ]
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
        fake, true = painted.flatten(0, 1), real[:, 1:].flatten(0, 1)
        loss = reconstruction_loss(fake, true)
        metrics = {"loss": loss.detach()}
        if progress >= CRITIC_FROM:
            loss = loss + self._judge(fake, true, metrics)
        self._step(self.optimizers[:2], loss, self.model)
        with torch.no_grad():
            error = F.mse_loss(fake.clamp(-1, 1), true)
            metrics["psnr"] = 10 * torch.log10(4 / error)
        return metrics

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

    def _judge(self, fake: Tensor, true: Tensor, metrics: dict[str, Tensor]) -> Tensor:
        """One update of the critic; returns the painter's share of the loss."""
        with torch.autocast("cpu", torch.bfloat16):
            on_real, _ = self.critic(true)
            on_fake, _ = self.critic(fake.detach())
            cost = critic_loss(on_real.float(), on_fake.float())
        self._step(self.optimizers[2:], cost, self.critic)
        with torch.autocast("cpu", torch.bfloat16):
            verdict, features = self.critic(fake)
            with torch.no_grad():
                _, wanted = self.critic(true)
            matching = feature_loss(features, wanted)
        metrics["critic"] = cost.detach()
        return CRITIC_WEIGHT * -verdict.float().mean() + FEATURE_WEIGHT * matching.float()

    def _step(
        self, optimizers: list[torch.optim.Optimizer], loss: Tensor, of: torch.nn.Module
    ) -> None:
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(of.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
