"""The loop: the schedule's shape, and a Ctrl-C that loses nothing."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from worldsim.errors import CheckpointError
from worldsim.training.loop import fit, matrix_optimizers, schedule, take_step


class Line:
    """Fits y = 3 x; can be interrupted at a given update."""

    name = "line"

    def __init__(self, interrupt_at: int | None = None) -> None:
        torch.manual_seed(0)
        self.model: nn.Module = nn.Linear(1, 1)
        self.optimizers = matrix_optimizers(self.model, 0.1, inside=("weight",))
        self._left = interrupt_at

    def update(self, progress: float) -> dict[str, Tensor]:
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise KeyboardInterrupt
        x = torch.linspace(-1, 1, 16)[:, None]
        loss = (self.model(x) - 3 * x).square().mean()
        take_step(self.optimizers, loss, self.model)
        return {"loss": loss.detach()}


def test_the_rate_goes_up_stays_and_comes_down() -> None:
    rates = [schedule(i / 100) for i in range(100)]

    assert rates[0] < rates[1] < 1
    assert rates[10:60] == [1.0] * 50
    assert all(a > b for a, b in pairwise(rates[61:98]))


def test_fitting_learns_and_returns_the_average(tmp_path: Path) -> None:
    averaged = fit(Line(), steps=600, run=tmp_path)

    assert averaged.get_parameter("weight").item() == pytest.approx(3, abs=0.3)


def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    whole = fit(Line(), steps=40, run=tmp_path / "whole")

    with pytest.raises(KeyboardInterrupt):
        fit(Line(interrupt_at=17), steps=40, run=tmp_path / "cut")
    resumed = fit(Line(), steps=40, run=tmp_path / "cut", resume=True)

    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
    steps = [json.loads(x)["step"] for x in (tmp_path / "cut" / "metrics.jsonl").open()]
    assert steps == sorted(set(steps))


def test_a_damaged_checkpoint_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "line.checkpoint.safetensors").write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match=r"line\.checkpoint\.safetensors.*start this stage"):
        fit(Line(), steps=4, run=tmp_path, resume=True)
