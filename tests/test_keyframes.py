"""What a world adds to its networks: frames of its footage, and the flow that it moved by."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from worldsim.dynamics import DynamicsConfig
from worldsim.dynamics.matching import match
from worldsim.folder import WorldConfig, write_world
from worldsim.model import WorldModel
from worldsim.snapshot import encode_state
from worldsim.state import WorldState
from worldsim.tokenizer import TokenizerConfig
from worldsim.world import World

SIZE = (32, 48)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Random weights; all that is new is sure to be new, and keyframes are noise."""
    folder: Path = tmp_path_factory.mktemp("worlds") / "small"
    config = WorldConfig(
        name="small",
        fps=35.0,
        actions=["noop", "left", "right"],
        bindings={"noop": 0, "turn_left": 1, "turn_right": 2},
        tokenizer=TokenizerConfig(
            height=32, width=48, channels=8, encoder_width=32, decoder_widths=(32, 32, 32)
        ),
        dynamics=DynamicsConfig(
            rows=2, columns=3, channels=8, num_actions=3, width=20, heads=5, state_size=4
        ),
        keyframes=5,
    )
    torch.manual_seed(0)
    model = WorldModel(config)
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    model.dynamics.head.mover.news.bias.data.fill_(9.0)
    assert model.keyframes is not None
    model.keyframes.choose([np.random.default_rng(1).normal(size=(9, 6, 8)).astype(np.float16)])
    write_world(folder, config, model)
    return World.load(folder)


@pytest.fixture
def context() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (1, 4, *SIZE, 3), dtype=np.uint8)


def test_samples_take_from_keyframes_and_means_do_not(world: World, context: np.ndarray) -> None:
    players = 16
    bare = world.without_keyframes()
    state = world.reset(context.repeat(players, axis=0), seed=list(range(players)), batch=players)

    sample, mean = (world.predict(state, 1, noise_scale=s).drawn.latent for s in (1.0, 0.0))
    other, same = (bare.predict(state, 1, noise_scale=s).drawn.latent for s in (1.0, 0.0))

    differs = (sample != other).any(dim=-1)
    assert torch.equal(mean, same)
    assert 0 < differs.sum() < differs.numel()  # some of what is new, and not all
    kept = world._model.keyframes
    assert kept is not None
    frames = kept.latents.float() / 32
    for player, token in differs.nonzero().tolist():
        assert any(torch.equal(sample[player, token], frame[token]) for frame in frames)


def test_what_was_seen_from_here_is_seen_again(world: World, context: np.ndarray) -> None:
    news = world._model.dynamics.head.mover.news.bias
    unsure = news.data.clone()
    news.data.fill_(0.0)  # half of it may be new
    state = world.reset(context)
    before = world.predict(state, 1, noise_scale=0.0).drawn
    assert state.kept is not None and before.pose is not None
    seen = {
        "kept": ((before.latent[:, None] + 0.1) * 32).round().to(torch.int8).repeat(1, 128, 1, 1),
        "kept_pose": before.pose[:, None].repeat(1, 128, 1),
        "kept_tick": state.kept_tick * 0 - 99,
    }

    there = replace(state, **seen)
    mean, sample = (world.predict(there, 1, noise_scale=s).drawn.latent for s in (0.0, 1.0))

    news.data.copy_(unsure)
    wanted = seen["kept"][:, 0].float() / 32
    assert 0.01 < (mean - before.latent).mean() < 0.1  # a part of the way
    taken = (sample == wanted).all(dim=-1)
    assert 0 < taken.sum() < taken.numel()  # whole tokens, and not all


def test_a_state_forgets_what_was_seen_when_it_is_told_to(
    world: World, context: np.ndarray
) -> None:
    state = world.reset(context)
    later, _ = world.step(state, 1)

    assert state.seen is not None and later.seen is not None
    count = torch.isfinite(state.seen.kept_pose[0, :, 0]).sum()
    assert 1 <= count <= context.shape[1]
    assert not torch.isfinite(later.without_keyframes().kept_pose).any()
    assert torch.equal(later.without_keyframes().memory, later.memory)
    assert world.without_keyframes().reset(context).seen is None


def test_a_save_of_before_states_kept_anything_has_seen_nothing(
    world: World, context: np.ndarray
) -> None:
    state = world.reset(context)
    named = {k: v for k, v in state.tensors().items() if "kept" not in k and k != "pose"}
    old = encode_state(WorldState(**named), world.hash)

    loaded = world.restore(old)

    assert loaded.seen is not None
    assert not torch.isfinite(loaded.seen.kept_pose).any()
    both, _ = world.step(WorldState.stack([loaded, state]), 1)
    assert both.batch == 2
    again = world.restore(world.snapshot(state))
    assert all(torch.equal(again.tensors()[k], v) for k, v in state.tensors().items())


def test_a_real_frame_is_kept_where_the_mover_says_that_it_is(
    world: World, context: np.ndarray
) -> None:
    state = world.reset(context[:, :3])

    after = world.observe(state, context[:, 3], 1)

    assert after.seen is not None
    assert torch.equal(after.seen.pose, world.predict(state, 1, noise_scale=0.0).drawn.pose)
    assert (after.seen.kept_tick == 1).sum() == 1


def test_what_was_moved_is_remembered_by_the_flow_that_moved_it(
    world: World, context: np.ndarray
) -> None:
    prediction = world.predict(world.reset(context), 1)

    after = world.advance(prediction)

    size = (after.motion.shape[-2], after.motion.shape[-1])
    flow = prediction.drawn.moved.flow
    torch.testing.assert_close(after.motion[:, :2], F.adaptive_avg_pool2d(flow, size))


def test_a_real_frame_is_matched_with_the_one_before(world: World, context: np.ndarray) -> None:
    state = world.reset(context[:, :3])

    after = world.observe(state, context[:, 3], 1)

    wanted = match(state.picture, after.picture, world.config.tokenizer.grid)
    torch.testing.assert_close(after.motion, wanted)
