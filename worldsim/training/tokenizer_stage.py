"""Training of the tokenizer on streams of real frames.

The picture is carried along each lane, so that the decoder is trained on its own pictures, as it
will be used; at a jump it is cleared, or is the real frame before, as it is at the start of a
world. Some lanes get what a player's decoder gets: a picture that has been moved already, about
right and a little soft. The latents get noise, so that the decoder forgives what the dynamics will
get wrong.

Shapes: L lanes, T ticks, P tokens, C channels, H W picture.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from worldsim.tokenizer import Tokenizer, carry
from worldsim.training.device import device_of, fetch, fetch_pixels, lowered
from worldsim.training.loop import matrix_optimizers, take_step
from worldsim.training.paint import PaintLoss, part_of
from worldsim.training.streams import Streams

MATRICES = ("layers.", "coarse", "middle", "fine", "read", "carry")
CRITIC_FROM = 0.4  # of the way: painting must be about right before texture is judged
POLISH = 0.2  # weight of the pixels against the critic when only the decoder learns
LATENT_NOISE = 0.3  # at most, against tokens of unit root mean square
MOVED_SHARE = 0.3  # of the lanes, whose pictures are already about right
MISPLACED = 1.0  # pixels, standard deviation of what is wrong with their places


class TokenizerStage:
    name = "tokenizer"

    def __init__(
        self,
        model: Tokenizer,
        streams: Streams,
        *,
        rate: float = 2e-3,
        keep_latents: bool = False,
    ) -> None:
        """`streams` yields frames, uint8. With `keep_latents` only the decoder learns, mostly from
        the critic: a dynamics that knows these latents goes on to understand them."""
        self.model = model
        self._keep_latents = keep_latents
        model.encoder.requires_grad_(not keep_latents)
        self.optimizers = matrix_optimizers(model, rate, inside=MATRICES)
        self._device = device_of(model)
        self._paint = PaintLoss(self._device)
        self.streams = streams
        self._picture: Tensor | None = None

    def update(self, progress: float) -> dict[str, Tensor]:
        chunk = self.streams.next()
        real = fetch_pixels(chunk.arrays[0], self._device)
        jumped = fetch(chunk.jumped, self._device)
        with lowered(self._device):
            latents = self.model.encode(real)[:, 1:]
            latents = latents + self._noise(latents)
            painted = self._play(latents, real, jumped)
        losses = self._paint(
            painted.flatten(0, 1),
            real[:, 1:].flatten(0, 1),
            judged=self._keep_latents or progress >= CRITIC_FROM,
            faithful=POLISH if self._keep_latents else 1.0,
        )
        take_step(self.optimizers, losses["paint"], self.model)
        return {k: v.detach() for k, v in losses.items()}

    def state_dict(self) -> dict[str, Tensor]:
        """The pictures that the lanes carry, and the critic."""
        critic = {f"critic.{k}": v for k, v in self._paint.state_dict().items()}
        return critic if self._picture is None else {"picture": self._picture, **critic}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state_dict`."""
        picture = state.get("picture")
        self._picture = None if picture is None else picture.to(self._device)
        self._paint.load_state_dict(part_of(state, "critic."))

    def _play(self, latents: Tensor, real: Tensor, jumped: Tensor) -> Tensor:
        """Decode (L, T, P, C) lane by lane along time -> (L, T, 3, H, W)."""
        picture = self._start(real[:, 0], jumped)
        moved = torch.rand(len(real)) < MOVED_SHARE
        frames = []
        for latent, wanted in zip(latents.unbind(1), real[:, 1:].unbind(1), strict=True):
            about = torch.where(moved[:, None, None, None], _about(wanted), picture)
            frames.append(self.model.step(latent, about))
            picture = frames[-1].clamp(-1, 1)
        self._picture = picture.detach()
        return torch.stack(frames, dim=1)

    def _start(self, real: Tensor, jumped: Tensor) -> Tensor:
        """Carry each lane's picture; a lane that jumped starts cleared or from the real one."""
        if self._picture is None:
            self._picture = self.model.decoder.cleared(len(real))
        begin = real * (torch.rand(len(real)) < 0.5)[:, None, None, None]
        return torch.where(jumped[:, None, None, None], begin, self._picture)

    def _noise(self, latents: Tensor) -> Tensor:
        """Gaussian noise whose level differs from lane to lane; none for half of them."""
        level = (torch.rand(len(latents), 1, 1, 1) * 2 - 1).clamp(min=0) * LATENT_NOISE
        return level * torch.randn_like(latents)


def _about(pictures: Tensor) -> Tensor:
    """(L, 3, H, W), each place a little off and a little soft, as after being moved."""
    rows, columns = pictures.shape[-2] // 16, pictures.shape[-1] // 16
    soft = F.avg_pool2d(pictures, 3, stride=1, padding=1, count_include_pad=False)
    pictures = torch.lerp(pictures, soft, torch.rand(len(pictures), 1, 1, 1))
    return carry(pictures, MISPLACED * torch.randn(len(pictures), 2, rows, columns))
