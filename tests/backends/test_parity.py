"""Every backend says what torch says, and takes over a game that torch began."""

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from worldsim.backends.choice import BOUNDS
from worldsim.benchmarks.backends import agreement
from worldsim.world import World


def load(folder: Path, backend: str) -> World:
    """The world with that backend, or a skip that says what is missing here."""
    if backend.startswith("openvino") and importlib.util.find_spec("openvino") is None:
        pytest.skip("openvino is not installed")
    if backend in ("native", "compiled") and shutil.which("g++") is None:
        pytest.skip("no C++ compiler here")
    world = World.load(folder, backend=backend)
    if backend == "openvino-bf16" and world.backend == "torch":
        pytest.skip("this processor has no bfloat16 instructions")
    assert world.backend == backend
    return world


BACKENDS = [
    "native",
    "openvino",
    "openvino-bf16",
    pytest.param("compiled", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("ticks", [50, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_backend_agrees_with_torch(
    small: Path, warm: Path, frames: np.ndarray, backend: str, ticks: int
) -> None:
    plain, other = World.load(small), load(small, backend)

    found = agreement(plain, other, plain.reset(frames), ticks=ticks)

    assert found["levels"] <= BOUNDS[backend].levels
    assert found["memory"] <= BOUNDS[backend].memory


@pytest.mark.parametrize("backend", BACKENDS)
def test_games_move_between_backends(
    small: Path, warm: Path, frames: np.ndarray, backend: str
) -> None:
    plain, other = World.load(small), load(small, backend)
    state, _ = other.step(plain.reset(frames), 1)

    there = plain.restore(other.snapshot(state))
    back = other.restore(plain.snapshot(plain.step(there, 2)[0]))

    assert torch.equal(there.memory, state.memory)
    assert back.tick.item() == 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_several_players_are_computed_together(
    small: Path, warm: Path, frames: np.ndarray, backend: str
) -> None:
    plain, other = World.load(small), load(small, backend)
    other.prepare(2)
    states = plain.reset(np.stack([frames] * 3), seed=[1, 2, 3])
    two = type(states).stack([states.select(0), states.select(1)])

    for state in (states, two):  # three were not prepared: torch may do them
        wanted, got = plain.predict(state, 1), other.predict(state, 1)

        apart = np.abs(wanted.output.frame.astype(int) - got.output.frame.astype(int)).mean()
        assert apart <= BOUNDS[backend].levels
        assert other.advance(got).memory.shape == state.memory.shape
    assert other.backend == backend


def test_outputs_are_values(small: Path, warm: Path, frames: np.ndarray) -> None:
    world = load(small, "openvino")
    first, _ = world.step(world.reset(frames), 1)
    kept = {name: x.clone() for name, x in first.tensors().items()}

    second, _ = world.step(first, 2)
    world.step(second, 0)

    for name, x in first.tensors().items():
        assert torch.equal(x, kept[name]), f"{name} was written to by a later tick"


def test_the_native_library_leaves_the_processor_as_it_is(small: Path, warm: Path) -> None:
    load(small, "native")

    assert np.float32(1e-40) * np.float32(0.5) > 0  # not flushed to zero
