"""Each artifact changes what it says it changes, and nothing else."""

import pytest
import torch

from worldsim.artifacts import FILLS, KINDS, block_shuffle, erase, patch_noise


@pytest.fixture
def pictures() -> torch.Tensor:
    """A picture and another moment, (2, 3, 96, 128)."""
    torch.manual_seed(0)
    return torch.rand(2, 3, 96, 128) * 2 - 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_picture_is_changed_in_a_copy(kind: str, pictures: torch.Tensor) -> None:
    kept = pictures.clone()

    shown = KINDS[kind](pictures[0], pictures[1])

    assert shown.shape == pictures[0].shape and not torch.equal(shown, pictures[0])
    assert torch.equal(pictures, kept)


def test_a_patch_is_a_patch(pictures: torch.Tensor) -> None:
    changed = (patch_noise(pictures[0], pictures[1]) != pictures[0]).any(dim=0)

    rows, columns = changed.any(dim=1).sum(), changed.any(dim=0).sum()
    assert 16 <= rows <= 32 and 16 <= columns <= 32
    assert changed.sum() == rows * columns


def test_shuffled_blocks_are_all_still_there(pictures: torch.Tensor) -> None:
    shown = block_shuffle(pictures[0], pictures[1])

    assert torch.equal(shown.flatten().sort().values, pictures[0].flatten().sort().values)


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("x", [0, 40, 118])
def test_an_erased_box_is_filled_from_around_or_from_elsewhere(
    fill: str, x: int, pictures: torch.Tensor
) -> None:
    picture = pictures[0].clone()
    picture[:, 20:30, x : x + 10] = 5.0  # nothing like it anywhere else

    shown = erase(picture, (20, x, 10, 10), fill, pictures[1])

    outside = torch.ones(96, 128, dtype=torch.bool)
    outside[20:30, x : x + 10] = False
    assert torch.equal(shown[:, outside], picture[:, outside])
    # a box at the border has its own edge on one side to go by, but no more than that
    assert (shown[:, 20:30, x : x + 10] == 5.0).float().mean() <= 0.1
