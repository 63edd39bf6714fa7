"""A world whose actions are vectors: what it takes, refuses, and says of itself."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from PIL import Image

from worldsim.atlas import draw_atlas
from worldsim.axes import Axis, at_rest
from worldsim.dynamics import DynamicsConfig
from worldsim.env import WorldEnv, WorldVectorEnv
from worldsim.errors import CheckpointError, DataError
from worldsim.evaluation.run import evaluate
from worldsim.folder import WorldConfig, write_world
from worldsim.model import WorldModel
from worldsim.tokenizer import TokenizerConfig
from worldsim.world import World

AXES = [Axis(name="turn", low=-8.0, high=8.0), Axis(name="grip", low=0.25, high=1.0)]
CONFIG = WorldConfig(
    name="arm",
    fps=20.0,
    actions=[],
    bindings={},
    axes=AXES,
    tokenizer=TokenizerConfig(
        height=32, width=48, channels=8, encoder_width=32, encoder_hidden=8,
        decoder_widths=(8, 8, 16), decoder_hidden=(8, 8, 8),
    ),
    dynamics=DynamicsConfig(
        rows=2, columns=3, channels=8, num_actions=0, axes=(8.0, 1.0), width=20, heads=5,
        state_size=4,
    ),
    start_actions=[[1.5, 0.5]],
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A world that has learned nothing, with two axes."""
    torch.manual_seed(0)
    model = WorldModel(CONFIG)
    for parameter in model.dynamics.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    write_world(tmp_path / "arm", CONFIG, model)
    noise = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "arm" / "start.png")
    return tmp_path / "arm"


def test_floats_for_all_or_for_each_lead_to_frames_of_their_own(folder: Path) -> None:
    world = World.load(folder)
    assert world.axes == AXES and world.num_actions == 0 and world.actions == []
    assert world.idle_action == at_rest(AXES) == (0.0, 0.25)
    state = world.reset(seed=[3, 3], batch=2)

    _, same = world.step(state, [8.0, 1.0])
    _, each = world.step(state, [[8.0, 1.0], [-8.0, 1.0]])

    assert (same.frame[0] == same.frame[1]).all()
    assert (each.frame[0] == same.frame[0]).all()
    assert (each.frame[0] != each.frame[1]).any()


def test_a_snapshot_plays_on(folder: Path) -> None:
    world = World.load(folder)
    state, _ = world.step(world.reset(seed=1), (2.0, 0.5))

    _, one = world.step(state, (-3.0, 1.0))
    _, other = world.step(world.restore(world.snapshot(state)), (-3.0, 1.0))

    assert (one.frame == other.frame).all()


@pytest.mark.parametrize(
    ("action", "said"),
    [
        (3, r"floats \(A,\) or \(1, A\), A = 2 \(turn, grip\)"),
        ([1.0], "got shape"),
        ("left", "action must be floats"),
        ([9.0, 1.0], r"turn must be within -8..8, got 9"),
        ([0.0, float("nan")], "grip must be within 0.25..1, got nan"),
    ],
)
def test_another_action_is_refused(folder: Path, action: object, said: str) -> None:
    world = World.load(folder)

    with pytest.raises(ValueError, match=said):
        world.step(world.reset(), action)  # type: ignore[arg-type]


def test_a_context_has_axes_too(folder: Path) -> None:
    world = World.load(folder)
    frames = np.zeros((3, 32, 48, 3), np.uint8)

    unknown = world.reset(frames)
    known = world.reset(frames, actions=[[1.0, 0.5], [2.0, 0.5]])

    assert not torch.equal(unknown.context, known.context)
    with pytest.raises(ValueError, match=r"actions must be \(2, 2\) or \(1, 2, 2\)"):
        world.reset(frames, actions=[1, 2])


def test_as_environments(folder: Path) -> None:
    env = WorldEnv(World.load(folder), max_steps=3)
    assert isinstance(env.action_space, Box) and env.action_space.shape == (2,)
    env.reset(seed=0)
    frame, *_ = env.step(np.array([8.0, 1.0]))
    assert frame.shape == (32, 48, 3)

    several = WorldVectorEnv(World.load(folder), 2, max_steps=1)
    several.reset(seed=0)
    for _ in range(3):  # through an end and a new beginning
        frames, *_ = several.step(np.array([[8.0, 1.0], [0.0, 0.5]]))
    assert frames.shape == (2, 32, 48, 3)


def test_the_atlas_holds_each_axis_at_both_ends(folder: Path) -> None:
    atlas = draw_atlas(World.load(folder), scenes=1, ticks=2)

    assert atlas.names == ["turn=-8", "turn=8", "grip=0.25", "grip=1"]
    assert atlas.frames.shape[:3] == (4, 1, 3)


def test_what_needs_codes_says_so(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has axes"):
        evaluate(
            World.load(folder), tmp_path, tier="smoke", blocks=["world"], twin=None, out=None,
            log=lambda line: None,
        )  # fmt: skip


def test_a_config_with_axes_and_actions_or_of_another_scale_is_refused(folder: Path) -> None:
    for change, said in (
        ({"actions": ["noop"]}, "actions or axes, not both"),
        ({"axes": [{"name": "turn", "low": -4.0, "high": 4.0}]}, "dynamics.axes is"),
    ):
        raw = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(raw | change))
        with pytest.raises(CheckpointError, match=said):
            World.load(folder)
        (folder / "config.json").write_text(json.dumps(raw))


def test_an_axis_that_is_nothing_but_zero_has_a_scale() -> None:
    assert Axis(name="x", low=0.0, high=0.0).scale == 1.0
    assert replace(AXES[0], high=2.0).scale == 8.0
