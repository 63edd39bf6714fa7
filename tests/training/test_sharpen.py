"""Sharpening gives back what the decoder lost, and no more."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from worldsim.evaluation.metrics import sharpness
from worldsim.tokenizer import Tokenizer, TokenizerConfig
from worldsim.training.sharpen import GRAIN, LEVELS, TICKS, sharpen

CONFIG = TokenizerConfig(height=32, width=48, channels=8)


class Soft(Tokenizer):
    """A tokenizer whose latents are the pixels, painted with `blur` of their grain lost."""

    def __init__(self, blur: float) -> None:
        super().__init__(CONFIG)
        self.blur = blur

    def encode(self, pixels: Tensor) -> Tensor:
        return pixels

    def step(self, latent: Tensor, picture: Tensor) -> Tensor:
        paint = torch.lerp(latent, _mean(latent), self.blur)
        return paint + self.decoder.sharpening * (paint - _mean(paint))


def _mean(picture: Tensor) -> Tensor:
    return F.avg_pool2d(picture, 3, stride=1, padding=1, count_include_pad=False)


def footage() -> list[NDArray[np.uint8]]:
    noise = np.random.default_rng(0).integers(96, 160, (2, 3 * TICKS, 32, 48, 3))
    return list(noise.astype(np.uint8))


@pytest.mark.parametrize("blur", [0.0, 0.15, 0.9])
def test_the_least_that_is_enough_is_taken(blur: float) -> None:
    tokenizer = Soft(blur)
    episodes = footage()

    level = sharpen(tokenizer, episodes)

    pixels = torch.from_numpy(episodes[0][:4]).movedim(-1, -3).float() / 127.5 - 1

    def grain(at: float) -> float:
        tokenizer.decoder.sharpening.fill_(at)
        shown = tokenizer.step(pixels, pixels).clamp(-1, 1).movedim(-3, -1)
        made = ((shown + 1) * 127.5).round().byte().numpy()
        return float(sharpness(made).mean() / sharpness(episodes[0][:4]).mean())

    if level != LEVELS[-1]:
        assert grain(level) >= 0.98 * GRAIN
    if level != LEVELS[0]:
        assert grain(LEVELS[LEVELS.index(level) - 1]) < 1.02 * GRAIN
    assert (level == LEVELS[0], level == LEVELS[-1]) == (blur == 0.0, blur == 0.9)


def test_footage_too_short_to_tell_changes_nothing() -> None:
    tokenizer = Soft(0.9)
    tokenizer.decoder.sharpening.fill_(0.1)

    assert sharpen(tokenizer, [footage()[0][: TICKS - 1]]) == pytest.approx(0.1)
    assert float(tokenizer.decoder.sharpening) == pytest.approx(0.1)
