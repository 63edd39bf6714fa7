"""Training of the latent actions on streams of pictures and latents. Nobody says what was done.

Every three frames in a row are one example: which of few codes makes the third of the second one?
(dynamics/latent_actions.py). How well the code is used stands in the curve: `perplexity` is the
number of codes that are in use, 1 if they have collapsed.

Shapes: L lanes, T ticks, N = L * (T - 1) examples, P tokens, C channels, H W picture.
"""

import torch
from torch import Tensor

from worldsim.dynamics.latent_actions import LatentActions, choose, cost_volume, usage_loss
from worldsim.tokenizer import Tokenizer
from worldsim.training.device import device_of, fetch, fetch_pixels, lowered
from worldsim.training.loop import matrix_optimizers, take_step
from worldsim.training.pictures import motion_loss
from worldsim.training.streams import Streams

USAGE_WEIGHT = 0.01  # of the use of all codes, against pictures and latents


class ActionsStage:
    name = "actions"

    def __init__(
        self, model: LatentActions, tokenizer: Tokenizer, streams: Streams, *, rate: float = 2e-3
    ) -> None:
        """`streams` yields frames uint8 and latents; `tokenizer` is not trained."""
        self.model = self._actions = model
        self._tokenizer = tokenizer.requires_grad_(False)
        self.optimizers = matrix_optimizers(model, rate, inside=("layers.",))
        self.streams = streams
        self._device = device_of(model)

    def update(self, progress: float) -> dict[str, Tensor]:
        chunk = self.streams.next()
        pixels = fetch_pixels(chunk.arrays[0], self._device)
        latents = fetch(chunk.arrays[1], self._device).float()
        before, latent, after = (latents[:, i : i + latents.shape[1] - 2] for i in range(3))
        losses = self.losses(
            before.flatten(0, 1),
            latent.flatten(0, 1),
            after.flatten(0, 1),
            pixels[:, 1:-1].flatten(0, 1),
            pixels[:, 2:].flatten(0, 1),
        )
        take_step(self.optimizers, losses["loss"], self.model)
        return {k: v.detach() for k, v in losses.items()}

    def losses(
        self, before: Tensor, latent: Tensor, after: Tensor, picture: Tensor, real: Tensor
    ) -> dict[str, Tensor]:
        """Three latents in a row, (N, P, C), and the pictures of the last two, (N, 3, H, W)."""
        with lowered(self._device):
            logits = self._actions.encoder(before, latent, after, cost_volume(picture, real))
            predicted, moved = self._actions(latent, picture, choose(logits), self._tokenizer.move)
            losses = {
                "moved": motion_loss(moved.picture, real),
                "latent": (predicted.float() - after).square().mean(),
                "usage": usage_loss(logits),
            }
        losses["loss"] = losses["moved"] + losses["latent"] + USAGE_WEIGHT * losses["usage"]
        used = torch.bincount(logits.argmax(dim=-1), minlength=logits.shape[-1]) / len(logits)
        losses["perplexity"] = torch.special.entr(used).sum().exp()
        return losses

    def state_dict(self) -> dict[str, Tensor]:
        """Nothing passes from update to update."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state_dict`."""
