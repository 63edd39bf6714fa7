"""A world with sound: heard, saved, forked and replayed like everything else of it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from worldsim.dynamics import DynamicsConfig
from worldsim.errors import CheckpointError
from worldsim.folder import WorldConfig, read_config, write_world
from worldsim.model import WorldModel
from worldsim.sound import new_sound
from worldsim.tokenizer import TokenizerConfig
from worldsim.training.begin import with_sound
from worldsim.world import World


def small_config() -> WorldConfig:
    tokenizer = TokenizerConfig(height=32, width=48, channels=8)
    shape = {"rows": 2, "columns": 3, "channels": 8, "num_actions": 3}
    return WorldConfig(
        name="small",
        fps=35.0,
        actions=["noop", "left", "right"],
        bindings={"noop": 0, "turn_left": 1, "turn_right": 2},
        tokenizer=tokenizer,
        dynamics=DynamicsConfig(**shape, width=20, heads=5, state_size=4),
    )


def context(batch: int = 2, ticks: int = 5) -> np.ndarray:
    random = np.random.default_rng(0)
    return random.integers(0, 256, (batch, ticks, 32, 48, 3), dtype=np.uint8)


def sounding() -> WorldConfig:
    return with_sound(small_config())


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Random weights, loud enough to tell sounds apart."""
    torch.manual_seed(0)
    model = WorldModel(sounding())
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    write_world(tmp_path / "w", sounding(), model)
    return World.load(tmp_path / "w")


def play(world: World, state: object, actions: list[int]) -> np.ndarray:
    heard = []
    for action in actions:
        state, out = world.step(state, action)  # type: ignore[arg-type]
        heard.append(out.audio)
    return np.concatenate(heard, axis=1)


def test_every_tick_has_its_sound_and_says_what_it_cost(world: World) -> None:
    state, out = world.step(world.reset(context()), [0, 2])

    assert world.sample_rate == 22050
    assert out.audio is not None
    assert out.audio.shape == (2, 630) and out.audio.dtype == np.float32
    assert np.abs(out.audio).max() <= 1.0 and out.audio.std() > 0
    assert set(out.timing) == {"head_ms", "decode_ms", "sound_ms", "trunk_ms"}
    assert state.audio is not None


def test_a_snapshot_sounds_the_same_again_and_seeds_sound_different(world: World) -> None:
    state = world.reset(context(batch=1), seed=3)
    for action in (0, 1, 2, 1):
        state, _ = world.step(state, action)
    restored = world.restore(world.snapshot(state))

    first, again = play(world, state, [1, 2, 0]), play(world, restored, [1, 2, 0])
    assert np.array_equal(first, again)
    other = play(world, replace(state, seed=state.seed + 1), [1, 2, 0])
    assert not np.array_equal(first, other)


def test_forks_do_not_hear_each_other(world: World) -> None:
    state = world.reset(context(batch=1))
    alone = play(world, state, [1] * 4)
    play(world, state, [2] * 4)
    assert np.array_equal(play(world, state, [1] * 4), alone)
    both = world.reset(np.repeat(context(batch=1), 2, axis=0), seed=[0, 9])
    assert not np.array_equal(*play(world, both, [1] * 4))


def test_a_state_without_sound_begins_in_silence(world: World) -> None:
    state = world.reset(context(batch=1))
    deaf = replace(state, audio=None, audio_memory=None, audio_head=None, audio_tail=None)

    assert "audio" not in deaf.tensors()
    after, out = world.step(deaf, 0)
    assert out.audio is not None and after.audio is not None


def test_real_frames_may_be_observed(world: World) -> None:
    state = world.reset(context(batch=1))
    after = world.observe(state, context(batch=1)[:, 0], 1)
    assert after.audio is not None and after.tick.tolist() == [1]


def test_the_codec_says_real_sound_again(world: World) -> None:
    sound = np.random.default_rng(0).normal(0, 0.1, (5, 630)).astype(np.float32)
    assert world.repeat_sound(sound).shape == (5, 630)


def test_a_silent_world_stays_silent(tmp_path: Path) -> None:
    torch.manual_seed(0)
    write_world(tmp_path / "w", small_config(), WorldModel(small_config()))
    world = World.load(tmp_path / "w")
    state, out = world.step(world.reset(context()), 0)

    assert out.audio is None and "sound_ms" not in out.timing and state.audio is None
    with pytest.raises(ValueError, match="small is silent"):
        world.repeat_sound(np.zeros((1, 630), np.float32))


@pytest.mark.parametrize("fps", [10.0, 15.0, 24.0, 29.97, 30.0, 35.0, 60.0])
def test_samples_of_a_tick_fit_every_rate(fps: float) -> None:
    codec = new_sound(fps, 6, 8, 3).codec

    assert codec.samples == codec.hop * codec.columns
    assert abs(codec.samples * fps - 22050) < 0.02 * 22050
    assert codec.sample_rate == round(codec.samples * fps)
    assert 150 < codec.hop < 300


def test_wrong_sounds_are_refused_by_name(tmp_path: Path) -> None:
    good = sounding()
    assert good.sound is not None
    cases = {
        "sample_rate and sound.codec.sample_rate must be 22050": replace(good, sample_rate=8000),
        "sound.dynamics.tokens is 7": replace(
            good, sound=replace(good.sound, dynamics=replace(good.sound.dynamics, tokens=7))
        ),
        "sound.codec.width must be > 0": replace(
            good, sound=replace(good.sound, codec=replace(good.sound.codec, width=0))
        ),
    }
    for message, config in cases.items():
        write_world(tmp_path, config, torch.nn.Linear(1, 1))
        with pytest.raises(CheckpointError, match=message):
            read_config(tmp_path)


def test_its_networks_are_small() -> None:
    model = WorldModel(with_sound(read_config(Path(__file__).parents[1] / SHIPPED)))
    assert model.sound is not None
    assert sum(p.numel() for p in model.sound.parameters()) <= 600_000


SHIPPED = "worldsim/worlds/doom-hall"
