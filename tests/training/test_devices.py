"""Every stage keeps what it computes with where its model is."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from second_device import SecondDevice

from worldsim.dynamics.latent_actions import LatentActions
from worldsim.folder import WorldConfig
from worldsim.model import WorldModel
from worldsim.tokenizer.features import Own, frozen
from worldsim.tokenizer.student import FeaturesConfig
from worldsim.training import loop
from worldsim.training.actions_stage import ActionsStage
from worldsim.training.begin import config_of, with_sound
from worldsim.training.checkpoint import Stage
from worldsim.training.consistency import Consistency
from worldsim.training.device import lowered, precision_of
from worldsim.training.dynamics_stage import DynamicsStage
from worldsim.training.features_stage import FeaturesStage, with_limits
from worldsim.training.objects_stage import ObjectsStage
from worldsim.training.presets import PRESETS
from worldsim.training.sound_stage import SoundStage
from worldsim.training.streams import Streams
from worldsim.training.tokenizer_stage import TokenizerStage

CPU = torch.device("cpu")
FRAMES = 40
BATCH = {"lanes": 3, "ticks": 6, "jump": 0.3, "seed": 0}


def everything() -> WorldConfig:
    """A small world that has all that a world can have."""
    config = with_sound(config_of(PRESETS["small"], "w"))
    return replace(
        config,
        objects=PRESETS["small"].objects,
        learned_actions=True,
        features=FeaturesConfig(phi="own", size=Own.size),
    )


def begun(name: str, model: WorldModel, config: WorldConfig, device: torch.device) -> Stage:
    """A stage of `model`, on footage that is noise."""
    rng, c = np.random.default_rng(0), config.dynamics
    size = (config.tokenizer.height, config.tokenizer.width)
    frames = [rng.integers(0, 256, (FRAMES, *size, 3), dtype=np.uint8)]
    latents = [rng.normal(size=(FRAMES, c.num_tokens, c.channels)).astype(np.float16)]
    actions = [np.repeat(rng.integers(-1, c.num_actions, FRAMES // 5), 5)]
    assert config.sound and model.sound and model.features and model.objects
    sound = [rng.integers(-9999, 9999, (FRAMES, config.sound.codec.samples), dtype=np.int16)]
    phi = frozen(Own()).to(device)
    with_limits(model.features, phi, latents)
    consistency = Consistency.measured("band", phi, frames, actions, c.num_actions)

    def streams(*sources: object) -> Streams:
        return Streams(list(sources), **BATCH)  # type: ignore[arg-type]

    seen = (frames, latents, actions)
    learner = LatentActions(c).to(device)
    painter = model.tokenizer
    stages: dict[str, Callable[[], Stage]] = {
        "tokenizer": lambda: TokenizerStage(painter, streams(frames)),
        "actions": lambda: ActionsStage(learner, painter, streams(frames, latents)),
        "objects": lambda: ObjectsStage(model.objects, streams(*seen)),
        "dynamics": lambda: DynamicsStage(
            model.dynamics, painter, streams(*seen), model.objects, consistency=consistency
        ),
        "sound": lambda: SoundStage(model.sound, streams(sound, latents, actions)),
        "features": lambda: FeaturesStage(model.features, painter, phi, streams(frames, latents)),
    }
    return stages[name]()


def learn(stage: Stage) -> None:
    """Updates at the beginning and halfway, before and after a checkpoint."""
    for progress in (0.0, 0.5, 0.5):
        losses = loop.update(stage, progress)
    stage.load_state_dict({k: v.cpu() for k, v in stage.state_dict().items()})
    losses |= loop.update(stage, 0.5)
    assert all(torch.isfinite(v).all() for v in losses.values()), losses


NAMES = list(PRESETS["small"].shares)


@pytest.mark.parametrize("name", NAMES)
def test_a_stage_leaves_nothing_behind_on_the_processor(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    config = everything()
    model = WorldModel(config)
    there = SecondDevice()
    monkeypatch.setattr(loop, "computing", there.current)
    with there:
        there.move(model)
        stage = begun(name, model, config, torch.device("cpu"))
        learn(stage)


def test_the_second_device_notices_what_a_gpu_would_refuse() -> None:
    with SecondDevice() as there:
        on_it, beside = there.mark(torch.ones(3)), torch.ones(3)
        with pytest.raises(RuntimeError, match="not on the device"):
            on_it + beside
        with pytest.raises(RuntimeError, match="read as an array"):
            (2 * on_it).numpy()
        with there.current(torch.device("cpu")):
            assert there.has(on_it + torch.ones(3))
        assert there.has(on_it + beside.to(torch.device("cpu")))
        assert not there.has(beside + on_it.cpu())
        assert there.has(on_it + torch.tensor(1.0))


@pytest.mark.gpu
@pytest.mark.parametrize("name", NAMES)
def test_a_stage_learns_on_a_gpu(name: str) -> None:
    torch.manual_seed(0)
    config, device = everything(), torch.device("cuda")
    model = WorldModel(config).to(device)
    learn(begun(name, model, config, device))


@pytest.mark.parametrize(
    ("able", "wanted"),
    [
        ({"avx2": True, "avx512_bf16": False}, torch.float32),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
    ],
)
def test_products_are_lowered_only_where_the_processor_can(
    able: dict[str, bool], wanted: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)
    assert precision_of(CPU) == wanted
    with lowered(CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == wanted
