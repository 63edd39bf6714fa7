"""Every backend says what torch says, and takes over a game that torch began."""

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from worldsim.backends.choice import BOUNDS
from worldsim.backends.parts import Tensors
from worldsim.benchmarks.backends import agreement
from worldsim.dynamics.objects import PRESENCE
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
    assert found["sampled"] <= BOUNDS[backend].sampled
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
        # of bfloat16 means: a sample rounds to whole pixels, and noise a pixel off is other noise
        scale = 0.0 if backend == "openvino-bf16" else None
        wanted, got = (world.predict(state, 1, noise_scale=scale) for world in (plain, other))

        apart = np.abs(wanted.output.frame.astype(int) - got.output.frame.astype(int)).mean()
        assert apart <= BOUNDS[backend].levels
        assert other.advance(got).memory.shape == state.memory.shape
    assert other.backend == backend


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_part_agrees_on_what_comes_up_in_a_game(
    small: Path, warm: Path, frames: np.ndarray, backend: str
) -> None:
    plain, other = World.load(small), load(small, backend)
    seen = list(inputs_of_a_game(plain, frames))

    assert {part for part, _ in seen} == set(plain._parts.modules)
    for part, inputs in seen:
        if part == "move" and backend == "openvino-bf16":
            inputs = (*inputs[:8], torch.zeros_like(inputs[8]), *inputs[9:])  # no whole pixels
        for i, (wanted, got) in enumerate(
            zip(plain._parts.run(part, *inputs), other._parts.run(part, *inputs), strict=True)
        ):
            apart = (got.double() - wanted.double()).norm() / wanted.double().norm().clamp(min=1e-6)
            # twice: with random weights much of the flow lies where the mover cuts it to nothing
            assert apart <= 2 * BOUNDS[backend].part, f"output {i} of {part}: {apart:.1e}"
    assert other.backend == backend  # it did not give up


@pytest.mark.parametrize("backend", BACKENDS)
def test_slots_are_carried_without_rounding(
    small: Path, warm: Path, frames: np.ndarray, backend: str
) -> None:
    """What they remember passes through the rounded part; only where they go may be rounded."""
    plain, other = World.load(small), load(small, backend)
    for part, inputs in inputs_of_a_game(plain, frames):
        if part == "move":
            slots = inputs[-1].clone()
            slots[..., PRESENCE:] = torch.rand_like(slots[..., PRESENCE:]) * 399  # ticks unseen
            carried = other._parts.run(part, *inputs[:-1], slots)[-1]

            assert torch.equal(carried[..., PRESENCE:], slots[..., PRESENCE:])


def inputs_of_a_game(world: World, frames: np.ndarray) -> Iterator[tuple[str, Tensors]]:
    """The parts that a game of a few ticks runs, and with what."""
    seen: list[tuple[str, Tensors]] = []
    parts, run = world._parts, world._parts.run

    def noted(part: str, *inputs: torch.Tensor) -> Tensors:
        seen.append((part, inputs))
        return run(part, *inputs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "run", noted)
        state = world.reset(frames)
        for action in (1, 1, 2, 0, 2, 1, 0, 0):
            state, _ = world.step(state, action)
    yield from seen


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


def test_players_who_begin_from_one_state_are_read_row_by_row(
    small: Path, warm: Path, frames: np.ndarray
) -> None:
    """Their rows are one memory, seen four times; once a copy of it was bound and let go."""
    world = load(small, "openvino")
    world.prepare(4)
    shared = world.reset(frames, batch=4, seed=[3] * 4)
    own = type(shared)(**{name: x.contiguous().clone() for name, x in shared.tensors().items()})

    for _ in range(20):
        wanted, got = world.step(own, 1)[1], world.step(shared, 1)[1]
        assert np.array_equal(got.frame, wanted.frame)
    assert world.backend == "openvino"
