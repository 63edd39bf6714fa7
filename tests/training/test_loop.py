"""The loop: the schedule's shape, and interruptions that lose nothing (F53)."""

import os
import signal
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from line import Line

from worldsim.training.loop import Care, fit, schedule
from worldsim.training.metrics import read_metrics


def test_the_rate_goes_up_stays_and_comes_down() -> None:
    rates = [schedule(i / 100) for i in range(100)]

    assert rates[0] < rates[1] < 1
    assert rates[10:60] == [1.0] * 50
    assert all(a > b for a, b in pairwise(rates[61:98]))


def test_fitting_learns_and_returns_the_average(tmp_path: Path) -> None:
    averaged = fit(Line(), steps=600, run=tmp_path)

    assert averaged.get_parameter("weight").item() == pytest.approx(3, abs=0.3)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_f53_an_interrupted_run_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    whole = fit(Line(), steps=40, run=tmp_path / "whole")

    with pytest.raises(KeyboardInterrupt):
        fit(Line({17: lambda: os.kill(os.getpid(), number)}), steps=40, run=tmp_path / "cut")
    saved = list((tmp_path / "cut" / "checkpoints" / "line").iterdir())
    resumed = fit(Line(), steps=40, run=tmp_path / "cut", care=Care(resume=True))

    assert [path.name for path in saved] == ["step-00000018"]  # the update was finished
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
    steps = [line["step"] for line in read_metrics(tmp_path / "cut")]
    assert steps == sorted(set(steps))


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="the system has no SIGUSR1")
def test_f53_who_announces_the_end_gets_a_checkpoint_and_the_run_goes_on(tmp_path: Path) -> None:
    handler = signal.getsignal(signal.SIGUSR1)

    fit(Line({17: lambda: os.kill(os.getpid(), signal.SIGUSR1)}), steps=40, run=tmp_path)

    saved = sorted(path.name for path in (tmp_path / "checkpoints" / "line").iterdir())
    assert saved == ["step-00000018", "step-00000040"]
    assert signal.getsignal(signal.SIGUSR1) == handler


def test_f53_a_second_interruption_is_immediate_and_the_handlers_come_back(tmp_path: Path) -> None:
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]

    def twice() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fit(Line({5: twice}), steps=40, run=tmp_path)

    assert not (tmp_path / "checkpoints").exists()
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers
