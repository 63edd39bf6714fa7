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


def a_hall_with_a_gun(rng: np.random.Generator, count: int) -> np.ndarray:
    """Frames whose tokens are noise (walls: no two are alike), but for the last, which is one of
    two pictures, nearly (a gun at rest or bobbing)."""
    walls = rng.normal(size=(count, TOKENS - 1, CHANNELS))
    guns = np.sign(rng.normal(size=(count, 1, 1))) * np.ones((1, 1, CHANNELS))
    gun = guns + 0.02 * rng.normal(size=(count, 1, CHANNELS))
    return np.concatenate([walls, gun], axis=1).astype(np.float16)


def test_what_was_never_seen_in_its_place_comes_from_a_keyframe() -> None:
    rng = np.random.default_rng(0)
    kept = Keyframes(300, TOKENS, CHANNELS)
    kept.choose([a_hall_with_a_gun(rng, 1200)])
    real = torch.from_numpy(a_hall_with_a_gun(rng, 400)).float()
    smeared = real.clone()
    smeared[:, -1] = 0.0  # half of either gun: nearer to both than two walls are to each other
    nothing = torch.zeros(400, TOKENS, dtype=torch.bool)

    def replaced(latent: torch.Tensor) -> torch.Tensor:
        return (kept(latent, nothing) != latent).any(dim=-1).float().mean(dim=0)

    assert replaced(real).max() < 0.2  # 2 % of all, wherever they are
    assert replaced(smeared)[-1] == 1.0
    mended = kept(smeared, nothing)[:, -1]
    assert (mended.abs() - 1).abs().max() < 0.2  # one of the two
    assert torch.equal(replaced(smeared)[:-1], replaced(real)[:-1])


def test_a_world_that_was_saved_mends_as_before(footage: list[np.ndarray]) -> None:
    kept, loaded = (Keyframes(50, TOKENS, CHANNELS) for _ in range(2))
    kept.choose(footage)
    loaded.load_state_dict(kept.state_dict())
    query = torch.randn(8, TOKENS, CHANNELS)

    assert torch.equal(loaded.unlike(query), kept.unlike(query))
    assert loaded.limit == kept.limit


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
