"""Training in C++: the same attention as torch's, and torch where it cannot be built."""

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from worldsim.backends import native as compilers
from worldsim.dynamics import DynamicsConfig
from worldsim.dynamics.attention import SpatialAttention
from worldsim.dynamics.ssm import Mamba2
from worldsim.training import native
from worldsim.training.native import library_for
from worldsim.training.speed import speed_up

CPU = torch.device("cpu")
needs_compiler = pytest.mark.skipif(compilers.compiler() is None, reason="needs a C++ compiler")


@pytest.fixture
def nothing_built() -> Iterator[None]:
    native._built.cache_clear()
    yield
    native._built.cache_clear()


@needs_compiler
@pytest.mark.parametrize("conditioned", [False, True])
def test_attention_and_all_its_gradients_are_torchs(conditioned: bool) -> None:
    torch.manual_seed(0)
    config = DynamicsConfig(rows=3, columns=4, width=160, heads=5, registers=3)
    slow = SpatialAttention(config, conditioned=conditioned)
    library = library_for(CPU)
    assert library is not None
    fast = copy.deepcopy(slow)
    speed_up(fast, library)
    fast = copy.deepcopy(fast)  # as the average of the weights is made
    x, way = torch.randn(6, config.num_places, 160), torch.randn(6, config.num_places, 160)
    condition = torch.randn(6, 160) if conditioned else None
    found = []
    for precision, layer in ((torch.float32, slow), (torch.bfloat16, slow), (torch.bfloat16, fast)):
        layer.zero_grad()
        given = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision != torch.float32):
            y = layer(given, condition)
        (y.float() * way).sum().backward()
        grads = {n: p.grad.clone() for n, p in layer.named_parameters() if p.grad is not None}
        found.append({"y": y.detach().float(), "x": given.grad, **grads})
    exact, rounded, ours = found

    assert len(ours) == len(exact) == (8 if conditioned else 5)
    for name, wanted in exact.items():
        error = (ours[name] - wanted).norm() / wanted.norm()
        usual = (rounded[name] - wanted).norm() / wanted.norm()
        assert error < max(1.2 * float(usual), 1e-3), name  # no worse than torch in bfloat16


@needs_compiler
def test_the_scan_and_all_its_gradients_are_torchs() -> None:
    torch.manual_seed(0)
    slow, library = Mamba2(64, 4, 16), library_for(CPU)
    assert library is not None
    fast = copy.deepcopy(slow)
    speed_up(fast, library)
    x, state = torch.randn(5, 40, 64), torch.randn(5, 4, 16, 16)
    way, end = torch.randn(5, 40, 64), torch.randn(5, 4, 16, 16)
    found = []
    for layer in (slow, fast):
        given = x.clone().requires_grad_()
        y, after = layer(given, state)
        ((y * way).sum() + (after * end).sum()).backward()
        grads = {n: p.grad for n, p in layer.named_parameters()}
        found.append({"y": y.detach(), "after": after.detach(), "x": given.grad, **grads})

    assert len(found[0]) == 9 and all(v is not None for v in found[0].values())
    for name, wanted in found[0].items():
        torch.testing.assert_close(found[1][name], wanted, rtol=1e-3, atol=1e-3, msg=name)


@needs_compiler
def test_places_that_nobody_looks_at_stay_numbers() -> None:
    config = DynamicsConfig(rows=3, columns=4, width=64, heads=4)
    layer, library = SpatialAttention(config, conditioned=False), library_for(CPU)
    assert library is not None
    speed_up(layer, library)
    with torch.no_grad():
        layer.bias[:, :, 3:] = -1e4
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(torch.randn(2, config.num_places, 64))
    y.float().sum().backward()
    assert y.isfinite().all()
    assert layer.bias.grad is not None and layer.bias.grad.isfinite().all()
    assert not layer.bias.grad[:, :, 3:].any()


def test_without_a_compiler_torch_does_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], nothing_built: None
) -> None:
    monkeypatch.setattr(compilers, "compiler", lambda: None)
    assert library_for(CPU) is None
    assert "compiler" in capsys.readouterr().err


@needs_compiler
def test_a_source_that_does_not_compile_leaves_torch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.cpp").write_text("no C++")
    monkeypatch.setattr(native, "SOURCES", (tmp_path / "broken.cpp",))
    assert library_for(CPU) is None
    assert "failed" in capsys.readouterr().err
