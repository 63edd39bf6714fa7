"""A snapshot holds everything: whatever is played after it comes out the same, byte for byte."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from worldsim.dynamics import DynamicsConfig
from worldsim.folder import WorldConfig, write_world
from worldsim.model import WorldModel
from worldsim.state import WorldState
from worldsim.tokenizer import TokenizerConfig
from worldsim.world import World

CONFIG = WorldConfig(
    name="small",
    fps=35.0,
    actions=["noop", "left", "right"],
    bindings={"noop": 0, "turn_left": 1, "turn_right": 2},
    tokenizer=TokenizerConfig(height=32, width=48, channels=8),
    dynamics=DynamicsConfig(
        rows=2, columns=3, channels=8, num_actions=3, width=20, heads=5, state_size=4
    ),
)
Actions = st.lists(st.integers(0, 2), min_size=1, max_size=8)


def make(folder: Path, config: WorldConfig) -> World:
    """A world with random weights."""
    torch.manual_seed(0)
    model = WorldModel(config)
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    write_world(folder, config, model)
    return World.load(folder)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make(tmp_path_factory.mktemp("worlds") / "small", CONFIG)


def context() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (1, 5, 32, 48, 3), dtype=np.uint8)


def play(world: World, state: WorldState, actions: list[int]) -> tuple[WorldState, bytes]:
    """The state after `actions`, and all frames on the way."""
    frames = []
    for action in actions:
        state, out = world.step(state, action)
        frames.append(out.frame.tobytes())
    return state, b"".join(frames)


def check_replay(world: World, state: WorldState, steps: int) -> None:
    """Snapshot, `steps` ticks, restore, the same ticks: frames and end are the same bytes."""
    actions = np.random.default_rng(5).integers(world.num_actions, size=steps).tolist()
    saved = world.snapshot(state)

    end, frames = play(world, state, actions)
    again, seen = play(world, world.restore(saved), actions)

    assert seen == frames
    assert world.snapshot(again) == world.snapshot(end) != saved
    assert world.snapshot(state) == saved  # nothing was changed in place


def test_a_hundred_steps_after_a_restore_are_the_same_bytes(world: World) -> None:
    check_replay(world, world.reset(context(), seed=7), 100)


@pytest.mark.slow
def test_a_thousand_steps_of_the_shipped_world_are_the_same_bytes() -> None:
    shipped = World.load("doom-hall")
    check_replay(shipped, shipped.reset(seed=7), 1000)


@settings(max_examples=6, deadline=None)
@given(before=Actions, left=Actions, right=Actions, seed=st.integers(0, 2**31))
def test_forks_never_touch_each_other(
    world: World, before: list[int], left: list[int], right: list[int], seed: int
) -> None:
    common, _ = play(world, world.reset(context(), seed=seed), before)
    saved = world.snapshot(common)
    alone = {id(way): play(world, world.restore(saved), way)[1] for way in (left, right)}

    ways = [(common, left), (common, right)]
    seen = [b"", b""]
    for tick in range(max(len(left), len(right))):  # tick by tick in turns, as two views are
        for i, (state, actions) in enumerate(ways):
            if tick < len(actions):
                state, frame = play(world, state, actions[tick : tick + 1])
                ways[i], seen[i] = (state, actions), seen[i] + frame

    assert seen == [alone[id(left)], alone[id(right)]]
    assert world.snapshot(common) == saved


@settings(max_examples=6, deadline=None)
@given(actions=Actions, cut=st.integers(0, 8), seed=st.integers(0, 2**31))
def test_saving_anywhere_on_the_way_changes_nothing(
    world: World, actions: list[int], cut: int, seed: int
) -> None:
    begin = world.reset(context(), seed=seed)
    end, frames = play(world, begin, actions)

    middle, first = play(world, begin, actions[:cut])
    resumed, second = play(world, world.restore(world.snapshot(middle)), actions[cut:])

    assert first + second == frames
    assert world.snapshot(resumed) == world.snapshot(end)
