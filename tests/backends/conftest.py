"""A small world with random weights, and a cache folder that belongs to the test."""

from pathlib import Path

import numpy as np
import pytest
import torch

from worldsim import doctor
from worldsim.dynamics import DynamicsConfig, ObjectsConfig
from worldsim.folder import WorldConfig, write_world
from worldsim.model import WorldModel
from worldsim.sound import new_sound
from worldsim.tokenizer import TokenizerConfig
from worldsim.tokenizer.student import FeaturesConfig
from worldsim.world import World


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, small: Path) -> Path:
    """A cache folder in which the backends of the small world are built, as far as they can be."""
    folder = tmp_path_factory.mktemp("built")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(doctor, "cache_dir", lambda: folder)
        for backend in ("openvino", "native"):
            World.load(small, backend=backend)
    return folder


@pytest.fixture
def warm(built: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`built` as the user's cache folder."""
    monkeypatch.setattr(doctor, "cache_dir", lambda: built)
    return built


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty one."""
    monkeypatch.setattr(doctor, "cache_dir", lambda: tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small world with random weights, all that a world can have, and no start
    clip."""
    folder = tmp_path_factory.mktemp("worlds") / "small"
    tokenizer = TokenizerConfig(
        height=32, width=48, channels=8, encoder_width=32, decoder_widths=(32, 32, 32)
    )
    rows, columns = tokenizer.grid
    config = WorldConfig(
        name="small",
        fps=35.0,
        sample_rate=22050,
        actions=["noop", "left", "right"],
        bindings={"noop": 0, "turn_left": 1, "turn_right": 2},
        tokenizer=tokenizer,
        dynamics=DynamicsConfig(
            rows=rows, columns=columns, channels=8, num_actions=3, width=20, heads=5, state_size=4
        ),
        sound=new_sound(35.0, rows * columns, 8, 3),
        objects=ObjectsConfig(),
        features=FeaturesConfig(phi="none", size=16, alarm=0.0),
        keyframes=3,
    )
    torch.manual_seed(0)
    model = WorldModel(config)
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    assert model.keyframes is not None
    footage = np.random.default_rng(1).normal(size=(20, rows * columns, 8)).astype(np.float16)
    model.keyframes.choose([footage])
    write_world(folder, config, model)
    return folder


@pytest.fixture
def frames() -> np.ndarray:
    """A context of three frames, uint8 (3, 32, 48, 3)."""
    return np.random.default_rng(0).integers(0, 256, (3, 32, 48, 3), dtype=np.uint8)
