"""Torch does what cannot be built."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from worldsim.backends import native as compilers
from worldsim.training import native
from worldsim.training.native import library_for

CPU = torch.device("cpu")
needs_compiler = pytest.mark.skipif(compilers.compiler() is None, reason="needs a C++ compiler")


@pytest.fixture
def nothing_built() -> Iterator[None]:
    native._built.cache_clear()
    yield
    native._built.cache_clear()


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
    monkeypatch.setattr(native, "SOURCE", tmp_path / "broken.cpp")
    assert library_for(CPU) is None
    assert "failed" in capsys.readouterr().err
