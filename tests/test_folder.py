"""World folders and snapshots: every damaged or foreign one is one clear sentence."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from worldsim.dynamics import DynamicsConfig
from worldsim.errors import CheckpointError
from worldsim.folder import WorldConfig, write_world
from worldsim.tokenizer import TokenizerConfig
from worldsim.world import World, WorldModel


def small_config() -> WorldConfig:
    tokenizer = TokenizerConfig(height=32, width=48, channels=8)
    rows, columns = tokenizer.grid
    return WorldConfig(
        name="small",
        fps=35.0,
        actions=["noop", "left", "right"],
        bindings={"noop": 0, "turn_left": 1, "turn_right": 2},
        tokenizer=tokenizer,
        dynamics=DynamicsConfig(
            rows=rows, columns=columns, channels=8, num_actions=3, width=20, heads=5, state_size=4
        ),
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A world folder with random weights: enough for everything but a good picture."""
    torch.manual_seed(0)
    model = WorldModel(small_config())
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    write_world(tmp_path / "small", small_config(), model)
    return tmp_path / "small"


def context(batch: int = 2, ticks: int = 5, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (batch, ticks, 32, 48, 3), dtype=np.uint8)


def test_a_written_world_loads_and_plays(folder: Path) -> None:
    world = World.load(folder)
    state = world.reset(context())

    state, out = world.step(state, [0, 2])

    assert out.frame.shape == (2, 32, 48, 3)
    assert out.frame.dtype == np.uint8
    assert set(out.timing) == {"head_ms", "decode_ms", "trunk_ms"}
    assert state.tick.tolist() == [1, 1]


def test_a_restored_snapshot_replays_bit_for_bit(folder: Path) -> None:
    world = World.load(folder)
    state = world.reset(context(), seed=7)
    state, _ = world.step(state, 1)
    saved = world.snapshot(state)

    def play(state: object) -> list[np.ndarray]:
        frames = []
        for action in (0, 1, 2, 1):
            state, out = world.step(state, action)
            frames.append(out.frame)
        return frames

    for first, again in zip(play(state), play(world.restore(saved)), strict=True):
        assert np.array_equal(first, again)


def test_the_seed_determines_the_rollout_and_differs_between_players(folder: Path) -> None:
    world = World.load(folder)
    frames = np.repeat(context(batch=1), 2, axis=0)

    _, out = world.step(world.reset(frames, seed=3), 1)
    _, again = world.step(world.reset(frames, seed=3), 1)

    assert np.array_equal(out.frame, again.frame)
    assert not np.array_equal(out.frame[0], out.frame[1])


def test_a_player_is_not_changed_by_the_others_in_the_batch(folder: Path) -> None:
    world = World.load(folder)
    one, other = context(seed=0), context(seed=0)
    other[0] = context(seed=1)[0]

    _, first = world.step(world.reset(one), [0, 1])
    _, second = world.step(world.reset(other), [2, 1])

    assert np.array_equal(first.frame[1], second.frame[1])
    assert not np.array_equal(first.frame[0], second.frame[0])


def test_observing_a_real_frame_equals_having_had_it_as_context(folder: Path) -> None:
    world, frames = World.load(folder), context()
    actions = np.array([[0, 1, 2, 1], [2, 2, 0, 0]])

    whole = world.reset(frames, actions=actions)
    state = world.reset(frames[:, :-1], actions=actions[:, :-1])
    state = world.observe(state, frames[:, -1], actions[:, -1])

    torch.testing.assert_close(state.context, whole.context, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("action", [3, -1, [0, 9]])
def test_a_wrong_action_names_the_rule(folder: Path, action: object) -> None:
    world = World.load(folder)
    with pytest.raises(ValueError, match=r"action must be < 3, got (3|-1|9)"):
        world.step(world.reset(context()), action)  # type: ignore[arg-type]


def test_a_missing_world_lists_the_shipped_ones(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no world here.*shipped worlds"):
        World.load(tmp_path / "nowhere")


def test_truncated_weights_name_the_file(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"model\.safetensors.*truncated"):
        World.load(folder)


def test_an_absurd_header_length_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 2**33) + b"{}")
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        World.load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 99}, "format_version is 99, this worldsim reads 1"),
        ({"speed": 3}, "speed is not a setting"),
        ({"fps": "fast"}, r"Expected `float`, got `str` - at `\$\.fps`"),
    ],
)
def test_a_foreign_config_names_the_key(folder: Path, change: dict, message: str) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(CheckpointError, match=message):
        World.load(folder)


def test_an_unknown_key_inside_a_part_is_refused(folder: Path) -> None:
    path = folder / "config.json"
    raw = json.loads(path.read_text())
    raw["dynamics"]["depth"] = 3
    path.write_text(json.dumps(raw))
    with pytest.raises(CheckpointError, match=r"dynamics\.depth is not a setting"):
        World.load(folder)


@pytest.mark.parametrize("damage", ["truncate", "flip", "foreign", "noise"])
def test_a_damaged_or_foreign_snapshot_is_refused(folder: Path, damage: str) -> None:
    world = World.load(folder)
    data = bytearray(world.snapshot(world.reset(context())))
    if damage == "truncate":
        data = data[:-50]
    elif damage == "flip":
        data[-7] ^= 1
    elif damage == "foreign":
        data[10] ^= 1
    else:
        data = bytearray(b"not a snapshot at all")
    with pytest.raises(CheckpointError, match=r"snapshot"):
        world.restore(bytes(data))
