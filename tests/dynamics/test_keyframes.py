"""What a world keeps of its footage, and what it takes of it."""

import numpy as np
import pytest
import torch

from worldsim.dynamics.keyframes import STEPS, Keyframes

TOKENS, CHANNELS = 6, 4
ALL = torch.ones(1, TOKENS, dtype=torch.bool)


@pytest.fixture
def footage() -> list[np.ndarray]:
    """Two episodes of latents; frame t of the first one is all t / 32, of the second minus that."""
    frames = np.arange(100, dtype=np.float16)[:, None, None] / 32
    episode = frames * np.ones((1, TOKENS, CHANNELS), dtype=np.float16)
    return [episode, -episode]


def latent(value: float) -> torch.Tensor:
    return torch.full((1, TOKENS, CHANNELS), value)


def test_what_is_new_comes_from_the_nearest_frame(footage: list[np.ndarray]) -> None:
    kept = Keyframes(50, TOKENS, CHANNELS)
    kept.choose(footage)

    for wanted in (-2.5, -0.7, 0.4, 3.0):
        found = kept(latent(wanted), ALL)
        assert (found - wanted).abs().max() < 4 / 32  # every fourth frame is kept


def test_the_rest_stays_what_it_is(footage: list[np.ndarray]) -> None:
    kept = Keyframes(50, TOKENS, CHANNELS)
    kept.choose(footage)
    new = ALL.clone()
    new[:, :4] = False
    query = latent(1.0) + 0.01 * torch.randn(1, TOKENS, CHANNELS)

    found = kept(query, new)

    assert torch.equal(found[:, :4], query[:, :4])
    assert torch.equal(found[:, 4:], found[:, 4:5].expand(1, 2, CHANNELS))


def test_each_player_gets_a_frame_of_its_own(footage: list[np.ndarray]) -> None:
    kept = Keyframes(50, TOKENS, CHANNELS)
    kept.choose(footage)

    found = kept(torch.cat([latent(2.0), latent(-1.0)]), ALL.expand(2, TOKENS))

    assert torch.equal(found[:1], kept(latent(2.0), ALL))
    assert torch.equal(found[1:], kept(latent(-1.0), ALL))


def test_more_frames_than_there_are_is_no_error(footage: list[np.ndarray]) -> None:
    kept = Keyframes(500, TOKENS, CHANNELS)
    assert kept.is_empty
    kept.choose([footage[0][:7]])

    assert not kept.is_empty
    assert (kept(latent(0.1), ALL) - 0.1).abs().max() <= 0.5 / 32 + 1 / STEPS
