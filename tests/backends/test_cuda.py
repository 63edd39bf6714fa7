"""mamba-ssm's kernel through Triton's interpreter, which needs no GPU; and graphs, which do."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from worldsim.backends.choice import BOUNDS
from worldsim.benchmarks.backends import agreement
from worldsim.world import World

# A process of its own: TRITON_INTERPRET counts when triton is first imported.
INTERPRETED = """
import contextlib, os, torch
os.environ["TRITON_INTERPRET"] = "1"
torch.cuda.device = lambda *args, **kwargs: contextlib.nullcontext()
from worldsim.backends.cuda import adapted, load_kernel
from worldsim.dynamics.ssm import update

torch.manual_seed(0)
kernel = adapted(load_kernel())
for rows, heads, features, size in ((3, 5, 16, 16), (1, 2, 32, 8)):
    values, state = torch.randn(rows, heads, features), torch.randn(rows, heads, features, size)
    b, c = torch.randn(rows, size), torch.randn(rows, size)
    dt, a = torch.rand(rows, heads), -torch.rand(heads)
    kept = state.clone()
    wanted, got = update(values, b, c, dt, a, state), kernel(values, b, c, dt, a, state)
    for one, other in zip(wanted, got):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    assert torch.equal(state, kept), "a state is a value"
"""


@pytest.mark.skipif(
    not (importlib.util.find_spec("triton") and importlib.util.find_spec("mamba_ssm")),
    reason="triton or mamba-ssm is not installed",
)
def test_the_kernel_computes_the_recurrence() -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED], capture_output=True, text=True, timeout=120
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.gpu
def test_graphs_agree_with_torch(small: Path, cache: Path, frames: np.ndarray) -> None:
    plain, other = World.load(small, device="cuda"), World.load(small, "cuda", backend="cuda")
    assert other.backend == "cuda"

    found = agreement(plain, other, plain.reset(frames), ticks=200)

    assert found["levels"] <= BOUNDS["cuda"].levels
    assert found["sampled"] <= BOUNDS["cuda"].sampled
    assert found["memory"] <= BOUNDS["cuda"].memory


@pytest.mark.gpu
def test_a_state_of_a_graph_is_a_value(small: Path, cache: Path, frames: np.ndarray) -> None:
    world = World.load(small, "cuda", backend="cuda")
    first, _ = world.step(world.reset(frames), 1)
    kept = {name: x.clone() for name, x in first.tensors().items()}

    world.step(world.step(first, 2)[0], 0)

    assert all(torch.equal(x, kept[name]) for name, x in first.tensors().items())
