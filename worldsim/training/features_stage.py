"""Training of the student of phi, and of its detector, on pairs of frames in a row.

The student learns phi's features of a picture from its latent. The detector sees pairs, half of
them with a second picture that did not follow (worldsim/artifacts.py), and learns which tokens were
tampered with, and whether any were. Limits come afterwards, from footage that was kept back.

Shapes: N pairs, P tokens, C channels, H W picture, d features.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from worldsim.artifacts import KINDS
from worldsim.tokenizer import Tokenizer, to_pixels
from worldsim.tokenizer.features import Features
from worldsim.tokenizer.student import FeaturesConfig, Student
from worldsim.training.device import device_of, fetch
from worldsim.training.loop import matrix_optimizers, take_step
from worldsim.training.say import say
from worldsim.training.streams import Streams

PHI_SHARE = 4  # one of so many pictures is shown to phi, which takes most of an update
TAMPERED = 0.5  # of the pairs
VISIBLE = 0.06  # L1 per token, of colours in [-1, 1], above which a change counts
NOISE = 0.15  # at most, on both latents: in play they are predictions
KEPT_BACK = 10  # one episode of so many, for the limits
COSINE_QUANTILE, FALSE_ALARMS = 1e-3, 5e-4  # of real pairs
LIMIT_BATCH = 512


class FeaturesStage:
    name = "features"

    def __init__(
        self,
        model: Student,
        tokenizer: Tokenizer,
        phi: Features,
        streams: Streams,
        *,
        rate: float = 2e-3,
    ) -> None:
        """`streams` yields pairs of frames uint8 and of latents; only `model` is trained."""
        self.model = self._student = model
        self._tokenizer = tokenizer.requires_grad_(False)
        self._device = device_of(model)
        self._phi = phi.to(self._device)
        self.optimizers = matrix_optimizers(model, rate, inside=("layers.",))
        self.streams = streams

    def update(self, progress: float) -> dict[str, Tensor]:
        chunk = self.streams.next()
        frames = fetch(chunk.arrays[0], self._device)
        latents = fetch(chunk.arrays[1], self._device).float()
        before, after = latents[:, 0], latents[:, 1].clone()
        some = torch.randperm(len(frames))[: max(1, len(frames) // PHI_SHARE)]
        with torch.no_grad():
            wanted = self._phi(frames[some, 1])
        tampered, rows = self._tamper(frames, after)
        noise = NOISE * torch.rand(len(after), 1, 1) * (torch.rand(len(after), 1, 1) < 0.5)
        doubts = self._student.doubts(
            before + noise * torch.randn_like(before), after + noise * torch.randn_like(after)
        )
        is_bad = torch.zeros(doubts.shape)
        is_bad[rows] = tampered
        any_bad = is_bad.amax(dim=-1)
        known = torch.ones(len(after))  # a box of wall in place of a wall teaches nothing
        known[rows] = any_bad[rows]
        frame = F.binary_cross_entropy_with_logits(
            doubts.logsumexp(dim=-1), any_bad, known, reduction="sum"
        ) / known.sum().clamp(min=1)
        losses = {
            "student": 1 - (self._student(latents[some, 1]) * wanted).sum(dim=-1).mean(),
            "token": F.binary_cross_entropy_with_logits(doubts, is_bad),
            "frame": frame,
        }
        losses["loss"] = losses["student"] + losses["token"] + losses["frame"]
        take_step(self.optimizers, losses["loss"], self.model)
        return {k: v.detach() for k, v in losses.items()}

    def state_dict(self) -> dict[str, Tensor]:
        """Nothing passes from update to update."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state_dict`."""

    @torch.no_grad()
    def _tamper(self, frames: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
        """Put artifacts into some of the second pictures, and their latents into `after`; which
        tokens (n, P) show it, and in which rows (n,)."""
        rows = torch.randperm(len(frames))[: int(TAMPERED * len(frames))]
        real = to_pixels(frames[rows, 1])
        others = to_pixels(frames[rows.roll(1), int(torch.randint(2, ()))])
        kinds = [list(KINDS.values())[i] for i in torch.randint(len(KINDS), (len(rows),)).tolist()]
        bad = torch.stack([k(x, o) for k, x, o in zip(kinds, real, others, strict=True)])
        after[rows] = self._tokenizer.encoder(bad).float()
        side = real.shape[-2] // self._tokenizer.config.grid[0]
        change = F.avg_pool2d((bad - real).abs().mean(dim=1, keepdim=True), side).flatten(1)
        return (change > VISIBLE).float(), rows


def kept_back(episodes: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Episodes to train on, and those from which the limits are taken; the same if they are few."""
    held = [e for i, e in enumerate(episodes) if i % KEPT_BACK == KEPT_BACK - 1]
    used = [e for i, e in enumerate(episodes) if i % KEPT_BACK != KEPT_BACK - 1]
    return (used, held) if held else (used, used)


@torch.inference_mode()
def with_limits(student: Student, phi: Features, latents: Sequence[Any]) -> FeaturesConfig:
    """The settings of a trained student, its limits from real latents (T, P, C) per episode."""
    likeness, scores = [], []
    for episode in latents:
        z = fetch(np.array(episode), device_of(student)).float()
        for part in range(0, len(z) - 1, LIMIT_BATCH):
            piece = z[part : part + LIMIT_BATCH + 1]
            features = student(piece)
            likeness.append((features[1:] * features[:-1]).sum(dim=-1))
            scores.append(student.score(piece[:-1], piece[1:]))
    pairs, score = torch.cat(likeness).cpu(), torch.cat(scores).cpu()
    cosine = float(np.quantile(pairs.numpy(), COSINE_QUANTILE))
    alarm = float(np.quantile(score.numpy(), 1 - FALSE_ALARMS))
    found = FeaturesConfig(phi=phi.described, size=phi.size, cosine=cosine, alarm=alarm)
    say(
        f"features: frames in a row are alike by {float(pairs.mean()):.3f}, at least {cosine:.3f} "
        f"(epsilon {found.epsilon:.3f}); alarm above {alarm:.2f}, from {len(score)} real pairs"
    )
    return found
