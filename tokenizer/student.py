"""phi-hat: what plays needs of phi, from the latents that it has anyway.

`forward` gives phi's features of the picture that a latent stands for; keyframes are chosen by
them. `score` says how sure it is that a latent did not follow from the one before: a cut, a place
that turned to noise, places that were exchanged, an object that vanished. `bound` is the largest
change of a single feature, which DESIGN's alarm compares with

    epsilon = sqrt(2 (1 - c) / d)       c: the cosine of frames in a row that real footage keeps

Shapes: B batch, P tokens, C channels, d features.
"""

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from worldsim.tokenizer.blocks import Conv
from worldsim.tokenizer.config import TokenizerConfig

WIDTH, DETECTOR_WIDTH = 96, 64  # features per token


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig:
    """Which features a world has, and what real footage keeps of them from frame to frame."""

    phi: str  # of whom the student has learned: model, input size
    size: int  # d
    cosine: float = 0.0  # c: all but one in a thousand pairs of real frames are more alike
    alarm: float = 1e9  # the score above which a frame is an artifact or a cut

    @property
    def epsilon(self) -> float:
        """The change of one feature that two frames which are alike enough cannot reach."""
        return math.sqrt(2 * (1 - self.cosine) / self.size)


class Student(nn.Module):
    def __init__(self, config: TokenizerConfig, size: int) -> None:
        """`size` is d."""
        super().__init__()
        self._rows, channels = config.grid[0], config.channels
        self.layers = nn.Sequential(
            Conv(channels, WIDTH, 3), nn.SiLU(), Conv(WIDTH, WIDTH, 3), nn.SiLU()
        )
        self.write = Conv(WIDTH, size, 1)
        self.detector_layers = nn.Sequential(
            Conv(3 * channels, DETECTOR_WIDTH, 1),
            nn.SiLU(),
            Conv(DETECTOR_WIDTH, DETECTOR_WIDTH, 3),
            nn.SiLU(),
            Conv(DETECTOR_WIDTH, DETECTOR_WIDTH, 3),
            nn.SiLU(),
        )
        self.detect = Conv(DETECTOR_WIDTH, 1, 1)

    def forward(self, latent: Tensor) -> Tensor:
        """(B, P, C) -> phi of its picture, (B, d) of length 1."""
        features = self.write(self.layers(self._grid(latent)))
        normed: Tensor = F.normalize(features.mean(dim=(-2, -1)).float(), dim=-1)
        return normed

    def doubts(self, before: Tensor, latent: Tensor) -> Tensor:
        """Two latents in a row, (B, P, C) -> logit per token that it does not follow, (B, P)."""
        pair = torch.cat([before, latent, latent - before], dim=-1)
        found: Tensor = self.detect(self.detector_layers(self._grid(pair)))
        return found.flatten(1).float()

    def score(self, before: Tensor, latent: Tensor) -> Tensor:
        """Two latents in a row, (B, P, C) -> logit that the second does not follow, (B,)."""
        return self.doubts(before, latent).logsumexp(dim=-1)

    def bound(self, before: Tensor, latent: Tensor) -> Tensor:
        """Two latents in a row, (B, P, C) -> the largest change of one feature, (B,)."""
        was, is_now = self(torch.cat([before, latent])).chunk(2)
        largest: Tensor = (is_now - was).abs().amax(dim=-1)
        return largest

    def _grid(self, tokens: Tensor) -> Tensor:
        return rearrange(tokens, "b (h w) c -> b c h w", h=self._rows)
