"""Late action and one stack: the benchmark plays both as they were trained."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from worldsim.benchmarks.late import SWAPPED, Player, SwappedStreams, coming
from worldsim.evaluation.footage import Footage, Window
from worldsim.evaluation.predictors import WorldPredictor
from worldsim.folder import find_world, read_config, read_weights, write_world
from worldsim.model import WorldModel
from worldsim.start import read_start
from worldsim.world import World

CONTROLS = ["noop", "forward", "backward", "turn_left", "turn_right", "attack"]
PLAYED = np.array([[3, 3, 1, 4]])


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> tuple[WorldModel, World]:
    """The shipped world with nothing but pictures, as a model and as a world."""
    folder, path = find_world("doom-hall"), tmp_path_factory.mktemp("bare")
    config = replace(read_config(folder), objects=None, keyframes=0)
    model = WorldModel(config)
    read_weights(folder, model)
    write_world(path, config, model)
    for start in folder.glob("start.*"):
        shutil.copy(start, path)
    return model.requires_grad_(False).eval(), World.load(path)


@pytest.fixture(scope="module")
def window() -> Window:
    config = read_config(find_world("doom-hall"))
    size = config.tokenizer.height, config.tokenizer.width
    frames = read_start(find_world("doom-hall"), size)[-12:]
    nobody = np.zeros(len(frames), dtype=np.bool_)
    footage = Footage(
        path=Path("start.mkv"),
        index=0,
        frames=frames,
        controls=np.arange(len(frames)) % len(CONTROLS),
        resets=nobody,
        deaths=nobody,
        header={},
    )
    return Window(footage, len(frames) - 1, len(frames))


def test_late_action_is_what_worlds_do(bare: tuple[WorldModel, World], window: Window) -> None:
    model, world = bare
    player = Player(model.dynamics, model.tokenizer, is_late=True)
    codes = np.array([world.bindings[name] for name in CONTROLS])
    footage = replace(window.footage, controls=codes[window.footage.controls])

    mine = list(player.rollout([replace(window, footage=footage)], codes[PLAYED]))
    worlds = list(WorldPredictor(world, CONTROLS, exact=True).rollout([window], PLAYED))

    for ours, theirs in zip(mine, worlds, strict=True):
        assert np.abs(ours.astype(int) - theirs).max() <= 1  # rounding
    assert {part: len(times) for part, times in player.seconds.items()} == {
        "answer": len(mine),
        "remember": len(mine),
    }


def test_one_stack_is_told_in_play_what_it_is_told_in_training(
    bare: tuple[WorldModel, World], window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clip that is read whole, as in training, and one that is read up to the last frame."""
    model, _ = bare
    trunk, asked = model.dynamics.trunk, []
    player = Player(model.dynamics, model.tokenizer, is_late=False)
    step = trunk.step
    monkeypatch.setattr(trunk, "step", lambda *args: asked.append(step(*args)) or asked[-1])
    next(iter(player.rollout([window], PLAYED)))
    monkeypatch.undo()

    actions = torch.from_numpy(np.append(window.footage.controls, PLAYED[0, 0]))[None]
    pixels = torch.from_numpy(window.frames).movedim(-1, -3)[None] / 127.5 - 1
    latents = model.tokenizer.encode(pixels)
    state = replace(model.dynamics.initial_state(1), latent=latents[:, 0])
    whole, _ = trunk(latents, coming(actions)[:, :-1], torch.zeros(1, len(window.frames)), state)
    assert len(asked) == 1
    assert torch.allclose(asked[0][0], whole[:, -1], atol=1e-4)


def test_what_comes_is_a_tick_ahead() -> None:
    assert coming(torch.tensor([[5, 6, 7]])).tolist() == [[6, 7, 7]]


def test_three_tenths_are_swapped() -> None:
    actions = np.full(4000, 9)
    streams = SwappedStreams(
        [[np.zeros(4000)], [actions]], num_actions=8, lanes=4, ticks=500, jump=0.0, seed=1
    )
    frames, told = streams.next().arrays
    assert frames.shape == told.shape
    assert abs((told != 9).mean() - SWAPPED) < 0.05
    assert set(np.unique(told)) == {*range(8), 9}
