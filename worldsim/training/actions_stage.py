"""Training of the latent actions on streams of pictures, latents and sound. Nobody says what was
done.

Every three frames in a row are one example: which of few codes makes the third of the second one,
and what is heard with it? (dynamics/latent_actions.py). How well the code is used stands in the
curve: `perplexity` is the number of codes that are in use, 1 if they have collapsed.

Shapes: L lanes, T ticks, N = L * (T - 1) examples, P tokens, C channels, H W picture, S samples of
a tick, K columns of its sound, M mel bands.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldsim.data.sound import FULL
from worldsim.dynamics.latent_actions import LatentActions, choose, cost_volume, usage_loss
from worldsim.tokenizer import Tokenizer
from worldsim.tokenizer.sound import SoundCodec
from worldsim.training.device import device_of, fetch, fetch_pixels, lowered
from worldsim.training.loop import matrix_optimizers, take_step
from worldsim.training.pictures import motion_loss
from worldsim.training.streams import Streams

USAGE_WEIGHT = 0.01  # of the use of all codes, against pictures and latents
HEARD_WEIGHT = 0.05  # of the sound; 0.1 crowds out what moves, 0.03 may find nothing (docs/log.md)
SAMPLED = (32, 1500)  # episodes, and ticks of each, that tell how loud footage becomes


@dataclass(frozen=True)
class Hearing:
    """What sound is compared in."""

    codec: SoundCodec  # which hears; it is not trained
    size: float  # of the loudening in this footage, root mean square

    @classmethod
    @torch.no_grad()
    def measured(cls, codec: SoundCodec, sounds: Sequence[NDArray[np.int16]]) -> Self:
        """Of the sound of some episodes, (T, S) each."""
        squares = []
        for sound in sounds[:: -(-len(sounds) // SAMPLED[0])]:
            samples = torch.from_numpy(np.array(sound[: SAMPLED[1]])).to(codec.mel.device)
            mel = codec.hear(samples[None].float() / FULL)[0]
            squares.append(codec.loudening(mel[:-1], mel[1:]).square().flatten())
        return cls(codec, float(torch.cat(squares).mean().sqrt().clamp(min=1e-3)))

    def heard(self, sound: Tensor) -> tuple[Tensor, Tensor]:
        """int16 (L, T + 1, S) -> the log-mel (N, K, M) of all ticks but the first and the last,
        and how much louder it becomes in the next one, (N, M), of mean square 1."""
        samples = sound.float() / FULL
        mel = self.codec.hear(samples[:, 1:], samples[:, 0])
        now, then = mel[:, :-1].flatten(0, 1), mel[:, 1:].flatten(0, 1)
        return now, self.codec.loudening(now, then) / self.size


class ActionsStage:
    name = "actions"

    def __init__(
        self,
        model: LatentActions,
        tokenizer: Tokenizer,
        streams: Streams,
        hearing: Hearing | None = None,
        *,
        rate: float = 2e-3,
    ) -> None:
        """`streams` yields frames uint8 and latents, and, for a model with an ear, sound int16 and
        `hearing` how to hear it; `tokenizer` is not trained."""
        self.model = self._actions = model
        self._tokenizer = tokenizer.requires_grad_(False)
        self._hearing = hearing
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
            self._hearing.heard(fetch(chunk.arrays[2], self._device)) if self._hearing else None,
        )
        take_step(self.optimizers, losses["loss"], self.model)
        return {k: v.detach() for k, v in losses.items()}

    def losses(
        self,
        before: Tensor,
        latent: Tensor,
        after: Tensor,
        picture: Tensor,
        real: Tensor,
        heard: tuple[Tensor, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Three latents in a row, (N, P, C), the pictures of the last two, (N, 3, H, W), and what
        was heard, as in `Hearing.heard`."""
        with lowered(self._device):
            logits = self._actions.encoder(before, latent, after, cost_volume(picture, real))
            code = choose(logits)
            predicted, moved = self._actions(latent, picture, code, self._tokenizer.move)
            losses = {
                "moved": motion_loss(moved.picture, real),
                "latent": (predicted.float() - after).square().mean(),
                "usage": usage_loss(logits),
            }
            if heard is not None and self._actions.ear is not None:
                mel, louder = heard
                losses["heard"] = (self._actions.ear(mel, code).float() - louder).square().mean()
        losses["loss"] = losses["moved"] + losses["latent"] + USAGE_WEIGHT * losses["usage"]
        if "heard" in losses:
            losses["loss"] = losses["loss"] + HEARD_WEIGHT * losses["heard"]
        used = torch.bincount(logits.argmax(dim=-1), minlength=logits.shape[-1]) / len(logits)
        losses["perplexity"] = torch.special.entr(used).sum().exp()
        return losses

    def state_dict(self) -> dict[str, Tensor]:
        """Nothing passes from update to update."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state_dict`."""
