"""L_consist: pictures that the model samples must change, in phi, as real ones do.

With d the change of phi from a picture to the next one, and D the mean of |d|^2 over real footage:

    matched   |d - d_real|^2 / D                     what really came, after the same action
    band      relu(|d| - high)^2 + relu(low - |d|)^2, over D; 1 % and 99 % of real |d| per action
    naive     |d|^2 / D                              smallest for a video that stands still

The naive one is here to show that it freezes the video (docs/decisions/0015). D gives the weight
of the loss one meaning for every phi.

Shapes: N frames, H W picture, d numbers of phi.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from worldsim.tokenizer.features import Features
from worldsim.training.device import device_of, fetch

Kind = Literal["matched", "band", "naive"]
WEIGHT = 0.1
PICTURES = 3  # samples per update that phi looks at
ROLLOUT = 6  # ticks: a longer one is elsewhere, and the real change is not its own any more
EXAMPLES = 512  # real pairs from which D and the bands are taken
QUANTILES = (0.01, 0.99)
FEW = 20  # pairs; an action seen less often gets the band of all


@dataclass(frozen=True)
class Consistency:
    """One kind of the loss, ready for use."""

    kind: Kind
    phi: Features
    scale: float  # D
    low: Tensor  # (A + 1,), |d| of real footage per action
    high: Tensor  # (A + 1,)

    @classmethod
    def measured(
        cls,
        kind: Kind,
        phi: Features,
        frames: Sequence[Any],
        actions: Sequence[Any],
        num_actions: int,
    ) -> Self:
        """With D and the bands of footage: per episode uint8 (T, H, W, 3) and (T,), what led to
        each frame, -1 if unknown. The same footage gives the same numbers."""
        random = np.random.default_rng(0)
        lengths = np.array([len(f) - 1 for f in frames])
        episodes = random.choice(len(frames), EXAMPLES, p=lengths / lengths.sum())
        ticks = [int(random.integers(1, lengths[e] + 1)) for e in episodes]
        pairs = list(zip(episodes.tolist(), ticks, strict=True))
        device = device_of(phi)
        before = fetch(np.stack([frames[e][t - 1] for e, t in pairs]), device)
        after = fetch(np.stack([frames[e][t] for e, t in pairs]), device)
        told = fetch(np.array([int(actions[e][t]) for e, t in pairs]), device)
        with torch.inference_mode():
            change = torch.cat(
                [phi(b) - phi(a) for a, b in zip(before.split(32), after.split(32), strict=True)]
            )
        length = change.norm(dim=-1).clone()
        quantiles = length.new_tensor(QUANTILES)
        bands = length.quantile(quantiles).repeat(num_actions + 1, 1)
        for action in range(num_actions):
            own = length[told == action]
            if len(own) >= FEW:
                bands[action] = own.quantile(quantiles)
        scale = max(float(length.square().mean()), 1e-6)
        return cls(kind, phi, scale, bands[:, 0].clone(), bands[:, 1].clone())

    def pick(self, age: Tensor) -> Tensor:
        """Rows of (N,) samples that are looked at: those whose past was imagined, but not for long,
        come first; `age` in ticks, 0 is real."""
        short = (age > 0) & (age <= ROLLOUT)
        return short.int().argsort(descending=True, stable=True)[:PICTURES]

    def __call__(
        self, shown: Tensor, painted: Tensor, was: Tensor, real: Tensor, actions: Tensor
    ) -> Tensor:
        """The picture that was there, imagined or not, and what is painted next; the same two in
        the real clip, all (N, 3, H, W) in [-1, 1]; what was done, (N,) -> scalar."""
        with torch.autocast(painted.device.type, enabled=False):  # changes are small differences
            lengths = self._lengths(shown, painted.float(), was, real, actions)
        return lengths.mean() / self.scale

    def _lengths(
        self, shown: Tensor, painted: Tensor, was: Tensor, real: Tensor, actions: Tensor
    ) -> Tensor:
        """What is wrong with each, (N,)."""
        wanted = [shown] if self.kind != "matched" else [shown, was, real]
        with torch.no_grad():
            there, *truth = self.phi(torch.cat(wanted)).chunk(len(wanted))
        change: Tensor = self.phi(painted.clamp(-1, 1)) - there
        if self.kind == "matched":
            change = change - (truth[1] - truth[0])
        if self.kind != "band":
            return change.square().sum(dim=-1)
        length = (change.square().sum(dim=-1) + 1e-8).sqrt()
        beyond = F.relu(length - self.high[actions]).square()
        return beyond + F.relu(self.low[actions] - length).square()
