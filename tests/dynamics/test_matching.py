"""Block matching finds how a real picture was moved, to a fraction of a pixel."""

from pathlib import Path

import pytest
import torch

from worldsim.data.video import read_frames
from worldsim.dynamics.matching import match, still
from worldsim.tokenizer import to_pixels
from worldsim.tokenizer.blocks import warp

FIXTURE = Path(__file__).parents[1] / "data" / "doom-hall" / "doom-hall-010200.mkv"
GRID = (6, 8)


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    """Real frames, (4, 3, 96, 128)."""
    return to_pixels(torch.from_numpy(read_frames(FIXTURE, (96, 128), count=40)[::10]))


@pytest.mark.parametrize("shift", [(3.0, 0.0), (-6.0, 2.0), (1.4, -0.7)])
def test_the_shift_of_a_real_picture_is_found(
    pictures: torch.Tensor, shift: tuple[float, float]
) -> None:
    flow = torch.tensor(shift).view(1, 2, 1, 1).expand(4, 2, 96, 128)

    found = match(pictures, warp(pictures, flow, mode="bicubic"), GRID)

    assert found.shape == (4, 3, 12, 16)
    inside = found[:, :2, 2:-2, 3:-3].flatten(2).median(dim=-1).values
    assert (inside - torch.tensor(shift)).abs().max() < 0.4


def test_what_rests_has_not_moved(pictures: torch.Tensor) -> None:
    assert torch.equal(match(pictures, pictures, GRID), still(4, GRID, pictures))


def test_a_batch_does_not_leak(pictures: torch.Tensor) -> None:
    moved = pictures.roll(2, dims=-1)

    whole = match(pictures, moved, GRID)

    assert torch.equal(whole[1:2], match(pictures[1:2], moved[1:2], GRID))
