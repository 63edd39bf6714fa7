"""What the head learns from a frame: its mean, the flow to it, or a shortcut along the flow.

Shapes: N frames, P tokens, C channels, H W picture.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from worldsim.dynamics import flow as flows
from worldsim.dynamics.head import Head, Moved
from worldsim.training.pictures import Pictures

MEAN_SHARE, SHORTCUT_SHARE = 0.5, 0.15  # the rest learns the flow
# pixels of shift and L1, of colours in [-1, 1], up to which motion explains a token
EXPLAINED, FREE_EXPLAINED = (1, 0.06), (2, 0.09)


@dataclass(frozen=True)
class Frames:
    """Frames that are to be predicted, as far as they are known before any noise."""

    moved: Moved
    actions: Tensor  # (N,) or (N, A), what leads to them
    levels: Tensor  # (N,), standard deviation of the noise in what they were predicted from

    def pick(self, rows: Tensor) -> "Frames":
        """Some of them, by index."""
        m = self.moved
        parts = (m.picture, m.latent, m.features, m.news, m.flow)
        moved = Moved(*(part[rows] for part in parts))
        return Frames(moved, self.actions[rows], self.levels[rows])

    def predict(self, head: Head, x: Tensor, time: Tensor, size: Tensor) -> Tensor:
        """x (N, P, C) at `time`, before a step of `size`, (N, 1, 1) -> what the head says they
        are, (N, P, C)."""
        clock = torch.stack([time.flatten(), size.flatten(), self.levels], dim=-1)
        z: Tensor = head(x, clock, self.moved, self.actions)
        return z.float()

    def sample(self, head: Head, steps: int) -> Tensor:
        """As in play, from noise in `steps`; gradients reach the last step alone."""
        x = noise = torch.randn_like(self.moved.latent)
        for i in range(steps):
            time = x.new_full((len(x), 1, 1), i / steps)
            size = torch.full_like(time, 1 / steps)
            with torch.set_grad_enabled(i == steps - 1):
                z = self.predict(head, x, time, size)
                x = flows.advance(x, z, time, size)
        return self.moved.compose(x, noise)


@dataclass(frozen=True)
class Lesson:
    """How well the head did its exercise on each of N frames."""

    predicted: Tensor  # (N, P, C)
    error: Tensor  # (N,), mean square
    is_mean: Tensor  # bool (N,), the exercise was the mean


def exercise(head: Head, frames: Frames, target: Tensor) -> Lesson:
    """Give each frame an exercise: `target` (N, P, C) is the latent that really came."""
    n = len(target)
    kind = torch.rand(n)
    is_mean, is_shortcut = kind < MEAN_SHARE, kind > 1 - SHORTCUT_SHARE
    finest = 1 / flows.STEPS[-1]
    time = torch.randint(flows.STEPS[-1], (n,)) * finest
    size = torch.where(is_shortcut, torch.where(torch.rand(n) < 0.5, 0.5, 1.0), finest)
    time = torch.where(is_shortcut, (time >= 0.5) * (size < 1) * 0.5, time)
    time, size = torch.where(is_mean, 0.0, time), torch.where(is_mean, 1.0, size)
    time, size = time.view(-1, 1, 1), size.view(-1, 1, 1)
    noisy = flows.mix(target, torch.randn_like(target), time)
    noisy[is_mean] = 0.0
    wanted = target.clone()
    rows = is_shortcut.nonzero()[:, 0]
    if len(rows):
        with torch.no_grad():
            part = frames.pick(rows)
            wanted[rows] = flows.shortcut_target(
                lambda x, t, s: part.predict(head, x, t, s), noisy[rows], time[rows], size[rows]
            )
    predicted = frames.predict(head, noisy, time, size)
    error = (predicted - wanted).square().mean(dim=(1, 2))
    return Lesson(predicted, error, is_mean)


def news_loss(moved: Moved, real: Tensor, pictures: Pictures, *, free: bool) -> Tensor:
    """Cross-entropy of what the mover calls new, against what is: `real` (N, 3, H, W). What is
    `free` has left the real place a little, so that more must count as explained by motion."""
    reach, limit = FREE_EXPLAINED if free else EXPLAINED
    with torch.no_grad():
        new = pictures.misplacement(moved.picture, real, moved.news.shape[1], reach) > limit
    return F.binary_cross_entropy_with_logits(moved.news, new.float())
