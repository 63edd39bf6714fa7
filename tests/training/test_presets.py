"""The big presets, shrunken but with all their parts, learn and play; on a GPU as well."""

import numpy as np
import pytest
import torch

from worldsim.benchmarks.gpu import random_world, shrunken
from worldsim.training.dynamics_stage import DynamicsStage
from worldsim.training.loop import update
from worldsim.training.presets import PRESETS
from worldsim.training.streams import Streams
from worldsim.training.tokenizer_stage import TokenizerStage

FRAMES = 40


def learn_and_play(name: str, device: str) -> None:
    preset = shrunken(PRESETS[name])
    world = random_world(preset, name, device)
    model = world._model.requires_grad_(True)
    c = world.config.dynamics
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (FRAMES, *world.frame_size, 3), dtype=np.uint8)]
    latents = [rng.normal(size=(FRAMES, c.num_tokens, c.channels)).astype(np.float16)]
    actions = [rng.integers(-1, c.num_actions, FRAMES)]
    batch = {"lanes": 2, "ticks": 4, "jump": 0.1, "seed": 0}
    before = {k: v.clone() for k, v in model.dynamics.state_dict().items()}

    painted = update(TokenizerStage(model.tokenizer, Streams([frames], **batch)), 0.5)
    stage = DynamicsStage(
        model.dynamics, model.tokenizer, Streams([frames, latents, actions], **batch)
    )
    losses = [update(stage, 0.5) for _ in range(2)][-1]
    stage.load_state_dict({k: v.cpu() for k, v in stage.state_dict().items()})
    update(stage, 0.5)
    model.eval().requires_grad_(False)
    state = world.reset(frames=frames[0][:3], seed=1)
    after, out = world.step(state, 1)

    assert torch.isfinite(painted["paint"]) and torch.isfinite(losses["loss"])
    changed = [k for k, v in model.dynamics.state_dict().items() if not torch.equal(v, before[k])]
    assert any("trunk.layers.3.time" in k for k in changed)
    assert state.memory.shape[1] == c.trunk_layers // c.memory_every
    assert out.frame.shape == (1, *world.frame_size, 3)
    assert not torch.equal(after.memory, state.memory)
    assert world.snapshot(world.restore(world.snapshot(after))) == world.snapshot(after)


@pytest.mark.parametrize("name", ["base", "large"])
def test_a_shrunken_preset_learns_and_plays(name: str) -> None:
    learn_and_play(name, "cpu")


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["base", "large"])
def test_a_shrunken_preset_learns_and_plays_on_a_gpu(name: str) -> None:
    learn_and_play(name, "cuda")
