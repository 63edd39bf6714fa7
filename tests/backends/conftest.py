"""A small world with random weights, and a cache folder that belongs to the test."""

from pathlib import Path

import numpy as np
import pytest
import torch

from worldsim import doctor
from worldsim.dynamics import DynamicsConfig
from worldsim.folder import WorldConfig, write_world
from worldsim.tokenizer import TokenizerConfig
from worldsim.world import WorldModel


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(doctor, "cache_dir", lambda: tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    tokenizer = TokenizerConfig(
        height=32, width=48, channels=8, encoder_width=32, decoder_widths=(32, 32, 32)
    )
    rows, columns = tokenizer.grid
    config = WorldConfig(
        name="small",
        fps=35.0,
        actions=["noop", "left", "right"],
        bindings={"noop": 0, "turn_left": 1, "turn_right": 2},
        tokenizer=tokenizer,
        dynamics=DynamicsConfig(
            rows=rows, columns=columns, channels=8, num_actions=3, width=20, heads=5, state_size=4
        ),
    )
    torch.manual_seed(0)
    model = WorldModel(config)
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    write_world(tmp_path / "small", config, model)
    return tmp_path / "small"


@pytest.fixture
def frames() -> np.ndarray:
    """A context of three frames, uint8 (3, 32, 48, 3)."""
    return np.random.default_rng(0).integers(0, 256, (3, 32, 48, 3), dtype=np.uint8)
