"""The pace that training prints: frames per second, and operations against the peak."""

import re

import pytest
import torch
from torch import nn

from worldsim.training import pace as module
from worldsim.training.pace import Pace


def test_it_counts_products_and_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    model, clock = nn.Linear(8, 4), [0.0]
    monkeypatch.setattr(module, "measure_peak", lambda device, precision: 1024.0)
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock[0])
    pace = Pace(model, frames=10)

    def update() -> float:
        clock[0] += 0.5
        return float(model(torch.ones(2, 8)).detach().sum())

    assert str(pace) == ""
    for step in range(4):
        pace.run(step, update)
    # 2 x 8 x 4 products, twice as many operations, twice a second
    assert str(pace) == "20 frames/s, 25% of peak"


def test_the_peak_is_measured_when_it_is_asked_for() -> None:
    model = nn.Linear(64, 64)
    pace = Pace(model, frames=1)
    for step in range(3):
        pace.run(step, lambda: model(torch.ones(64, 64)))
    assert re.fullmatch(r"\d+ frames/s, \d+% of peak", str(pace))
