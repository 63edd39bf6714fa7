"""Keyframes: what is kept, what is found again, and that an untrained adapter changes nothing."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from worldsim.dynamics import DynamicsConfig
from worldsim.dynamics.head import Moved
from worldsim.dynamics.recall import SPACING, Keyframes, Recall, motion_of

CONFIG = DynamicsConfig(rows=3, columns=4, channels=6, width=20, heads=5)
HEIGHT, WIDTH = 48, 64


def wall() -> Tensor:
    """A wide wall of smooth random colours, (3, H, 400) in [-1, 1]."""
    coarse = torch.rand(1, 3, 12, 100, generator=torch.Generator().manual_seed(0))
    return F.interpolate(coarse, size=(HEIGHT, 400), mode="bilinear")[0] * 2 - 1


def view(left: int) -> Tensor:
    """(1, 3, H, W): the part of the wall that begins at a column."""
    return wall()[None, :, :, left : left + WIDTH]


def flow(across: float) -> Tensor:
    """(1, 2, 12, 16): the flow that moves a picture by so many pixels to the right."""
    return torch.tensor([-across, 0.0]).view(1, 2, 1, 1).expand(1, 2, 12, 16)


def move(picture: Tensor, by: Tensor) -> tuple[Tensor, Tensor]:
    """Moves sideways by whole pixels; the latent is the mean colour twice."""
    shift = round(float(-by[0, 0].mean()))
    moved = torch.roll(picture, shift, dims=-1)
    means = F.avg_pool2d(moved, 16).flatten(2).transpose(1, 2)
    return moved, torch.cat([means, means], dim=-1)


def moved_from(picture: Tensor, by: Tensor, news: Tensor) -> Moved:
    return Moved(picture, move(picture, flow(0))[1], torch.zeros(1, 16, 20), news, by)


@pytest.fixture
def recall() -> Recall:
    torch.manual_seed(0)
    return Recall(CONFIG, 3)


def turned(recall: Recall) -> Keyframes:
    """What is kept after the view went 120 columns to the right, 8 a tick."""
    kept = recall.keep(recall.empty(view(0)), view(0), None)
    for left in range(8, 121, 8):
        kept = recall.keep(kept, view(left), flow(-8.0))
    return kept


def test_a_picture_is_kept_when_the_view_is_somewhere_new(recall: Recall) -> None:
    kept = turned(recall)

    assert kept.count.tolist() == [4] and kept.pose[0, 0] == -120
    assert kept.poses[0, :, 0].tolist() == [-3 * SPACING, -SPACING, -2 * SPACING]  # the first went
    back = kept
    for left in range(112, 31, -8):
        back = recall.keep(back, view(left), flow(8.0))
    assert back.count.tolist() == [4]  # it has been there
    assert (back.pictures == kept.pictures).all()
    assert (kept.pictures.float() / 127.5 - 1)[0, 1].sub(view(32)[0]).abs().max() < 0.01


def test_keeping_changes_no_older_value(recall: Recall) -> None:
    kept = turned(recall)
    before = kept.pictures.clone()

    recall.keep(kept, view(200), flow(-80.0))

    assert torch.equal(kept.pictures, before)


def test_what_left_the_view_is_found_again(recall: Recall) -> None:
    kept = turned(recall)
    news = torch.full((1, 12), -1.0)
    news[:, [0, 4, 8]] = 1.0  # the left edge comes into view
    wrong = view(64).clone()
    wrong[..., :16] = 0.0
    # dead reckoning is 5 pixels off
    kept = replace(kept, pose=torch.tensor([[-64.0 - 8 + 5, 0.0]]))

    memory = recall(kept, moved_from(wrong, flow(8.0), news), move)

    inside = memory.may.view(3, 4)
    assert inside[:, 0].all()
    assert (memory.picture - view(64))[..., :16].abs().max() < 0.02
    taken = replace(memory, logit=torch.ones(1, 12))
    known = moved_from(wrong, flow(8.0), news)
    latent, moved = taken.compose(torch.zeros(1, 12, 6), known)
    assert torch.equal(latent[memory.may], memory.latent[memory.may])
    assert (moved.picture - view(64))[..., :16].abs().max() < 0.02


def test_with_nothing_kept_or_nothing_learned_nothing_is_taken(recall: Recall) -> None:
    news = torch.ones(1, 12)
    made, moved = torch.randn(1, 12, 6), moved_from(view(64), flow(8.0), news)

    empty = recall(recall.empty(view(0)), moved, move)
    assert not empty.may.any()
    latent, same = recall(turned(recall), moved, move).compose(made, moved)

    assert torch.equal(latent, made) and torch.equal(same.picture, moved.picture)
    assert torch.equal(same.latent, moved.latent)


def test_the_motion_of_a_flow_is_where_the_picture_goes() -> None:
    torch.testing.assert_close(motion_of(flow(5.0)), torch.tensor([[5.0, 0.0]]))
    x = torch.linspace(-1, 1, 16).expand(1, 1, 12, 16)
    outwards = torch.cat([-4.0 * x, torch.zeros(1, 1, 12, 16)], dim=1)  # 2 pixels halfway
    torch.testing.assert_close(motion_of(outwards), torch.tensor([[0.0, 2.0]]))


def test_a_lens_bends_what_turns(recall: Recall) -> None:
    flat = recall._flow(torch.tensor([10.0]), torch.zeros(1), WIDTH)
    recall.lens.data.fill_(0.5)
    bent = recall._flow(torch.tensor([10.0]), torch.zeros(1), WIDTH)

    assert flat[0, 0].std() < 0.1 and flat[0, 0].mean() == pytest.approx(-10, abs=0.1)
    middle = bent[0, 0, :, 7:9].mean()
    assert middle == pytest.approx(-10, abs=0.7)
    assert bent[0, 0].max() < -9 and bent[0, 0].min() < -14  # faster at the border
