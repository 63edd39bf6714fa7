"""What L_consist wants: change as in the real clip; only the naive one wants none."""

from typing import get_args

import numpy as np
import pytest
import torch
from panning import pan
from torch import Tensor

from worldsim.tokenizer import to_pixels
from worldsim.tokenizer.features import Features
from worldsim.training.consistency import PICTURES, ROLLOUT, Consistency, Kind

TICKS = torch.arange(40, 52)


class Thumbnail(Features):
    """A phi that needs no training: small pictures."""

    name, input_size, size = "thumbnail", (12, 16), 3 * 12 * 16

    def see(self, pixels: Tensor) -> Tensor:
        return pixels.flatten(1)


@pytest.fixture(scope="module")
def losses() -> dict[str, Consistency]:
    phi, clips = Thumbnail(), [pan(150, seed) for seed in range(2)]
    frames, controls = [c.frames for c in clips], [c.controls for c in clips]
    return {kind: Consistency.measured(kind, phi, frames, controls, 4) for kind in get_args(Kind)}


@pytest.fixture(scope="module")
def clip() -> tuple[Tensor, Tensor, Tensor]:
    """What was there, what came, and what led to it."""
    episode = pan(150, 0)
    pixels = to_pixels(torch.from_numpy(episode.frames))
    return pixels[TICKS - 1], pixels[TICKS], torch.from_numpy(episode.controls)[TICKS]


def judged(loss: Consistency, clip: tuple[Tensor, Tensor, Tensor], painted: Tensor) -> float:
    was, real, actions = clip
    return float(loss(was, painted, was, real, actions))


def test_the_real_clip_is_right_for_all_but_the_naive_one(
    losses: dict[str, Consistency], clip: tuple[Tensor, Tensor, Tensor]
) -> None:
    assert judged(losses["matched"], clip, clip[1]) < 1e-6
    assert judged(losses["band"], clip, clip[1]) < 0.02
    assert judged(losses["naive"], clip, clip[1]) > 0.3


def test_a_frozen_video_is_wrong_for_all_but_the_naive_one(
    losses: dict[str, Consistency], clip: tuple[Tensor, Tensor, Tensor]
) -> None:
    assert judged(losses["matched"], clip, clip[0]) > 0.3
    assert judged(losses["band"], clip, clip[0]) > 10 * judged(losses["band"], clip, clip[1])
    assert judged(losses["naive"], clip, clip[0]) < 1e-6


def test_change_counts_and_not_place(
    losses: dict[str, Consistency], clip: tuple[Tensor, Tensor, Tensor]
) -> None:
    """An imagined clip that is elsewhere, but changes as the real one does, is right."""
    was, real, actions = clip
    loss = losses["matched"](was, real, was, real, actions)
    shifted = losses["matched"](was.roll(1, 0), real.roll(1, 0), was, real, actions)
    frozen_there = losses["matched"](was.roll(1, 0), was.roll(1, 0), was, real, actions)

    assert loss < 1e-6 < shifted
    assert frozen_there > 0.3


@pytest.mark.parametrize("kind", get_args(Kind))
def test_only_what_was_painted_gets_a_gradient(
    kind: str, losses: dict[str, Consistency], clip: tuple[Tensor, Tensor, Tensor]
) -> None:
    was, real, actions = (x.clone() for x in clip)
    was.requires_grad_()
    painted = (0.5 * was + 0.4 * real.roll(3, 0)).detach().requires_grad_()

    with torch.autocast("cpu", torch.bfloat16):
        losses[kind](was, painted, was, real, actions).backward()

    assert painted.grad is not None and painted.grad.isfinite().all()
    assert painted.grad.abs().sum() > 0 and was.grad is None


def test_short_rollouts_come_first(losses: dict[str, Consistency]) -> None:
    age = torch.tensor([0, ROLLOUT + 1, 3, 0, 1, ROLLOUT, 2])

    rows = losses["matched"].pick(age)

    assert rows.tolist() == [2, 4, 5, 6][:PICTURES]
    assert len(losses["matched"].pick(torch.zeros(9))) == PICTURES


def test_the_same_footage_gives_the_same_limits(losses: dict[str, Consistency]) -> None:
    clips = [pan(150, seed) for seed in range(2)]
    phi = losses["band"].phi
    again = Consistency.measured(
        "band", phi, [c.frames for c in clips], [np.array(c.controls) for c in clips], 4
    )

    assert again.scale == losses["band"].scale > 0
    assert torch.equal(again.low, losses["band"].low) and again.low.shape == (5,)
    assert (again.low < again.high).all()
