"""Curves in a tracker: what metrics.jsonl says, and nothing if nobody asked."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from worldsim.errors import MachineError
from worldsim.training.metrics import read_metrics
from worldsim.training.run import train
from worldsim.training.trackers import Kind, Runs, tracking

FIXTURE = Path(__file__).parents[1] / "data"


def test_tensorboard_shows_what_the_metrics_say(tmp_path: Path) -> None:
    how: Any = {"actions": "labelled", "preset": "small", "stages": ["tokenizer"]}
    train(FIXTURE, tmp_path / "run", steps=22, track="tensorboard", **how)

    events = EventAccumulator(str(tmp_path / "run" / "tensorboard" / "0"))
    events.Reload()
    shown = {e.step: e.value for e in events.Scalars("tokenizer/psnr")}
    told = {line["step"]: line["psnr"] for line in read_metrics(tmp_path / "run")}
    assert shown.keys() == told.keys() == {0, 20, 21}
    assert [shown[k] for k in sorted(shown)] == pytest.approx([told[k] for k in sorted(told)])

    train(FIXTURE, tmp_path / "run", steps=1, track="tensorboard", **how)

    assert (tmp_path / "run" / "before" / "tensorboard").is_dir()
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard" / "0"))
    events.Reload()
    assert [e.step for e in events.Scalars("tokenizer/psnr")] == [0]


class Service(SimpleNamespace):
    """As trackio and wandb are used."""

    def __init__(self) -> None:
        super().__init__(began=None, rows=[], clocks=[], is_finished=False)

    def init(self, **how: Any) -> None:
        self.began = how

    def log(self, row: dict[str, float]) -> None:
        self.rows.append(row)

    def define_metric(self, name: str, step_metric: str) -> None:
        self.clocks.append((name, step_metric))

    def finish(self) -> None:
        self.is_finished = True


@pytest.mark.parametrize("kind", ["trackio", "wandb"])
def test_services_are_told_by_stage_and_told_the_end(
    kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service()
    monkeypatch.setitem(sys.modules, kind, service)  # type: ignore[arg-type]

    with tracking(kind, tmp_path / "hall") as tracker:
        assert tracker is not None
        tracker.log("tokenizer", 0, {"psnr": 20.0, "loss": float("nan")})
        tracker.log("tokenizer", 20, {"psnr": 21.0})
        tracker.log("dynamics", 0, {"loss": 0.5})

    assert service.began["name"] == "hall" and service.began["project"] == "worldsim"
    assert service.rows == [
        {"tokenizer/psnr": 20.0, "tokenizer/step": 0},
        {"tokenizer/psnr": 21.0, "tokenizer/step": 20},
        {"dynamics/loss": 0.5, "dynamics/step": 0},
    ]
    assert service.clocks == [
        ("tokenizer/*", "tokenizer/step"),
        ("dynamics/*", "dynamics/step"),
    ]
    assert service.is_finished


def test_training_goes_on_without_a_service_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    service = Service()

    def fail(row: dict[str, float]) -> None:
        raise ConnectionError("the line is dead")

    service.log = fail
    monkeypatch.setitem(sys.modules, "trackio", service)  # type: ignore[arg-type]

    with tracking("trackio", tmp_path / "hall") as tracker:
        assert tracker is not None
        tracker.log("dynamics", 0, {"loss": 0.5})
        tracker.log("dynamics", 20, {"loss": 0.4})

    assert capsys.readouterr().err.count("the line is dead; from here on only metrics.jsonl") == 1


def test_nobody_is_told_unless_asked(tmp_path: Path) -> None:
    with tracking(None, tmp_path) as tracker:
        assert tracker is None
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_is_said_before_anything_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)

    with pytest.raises(MachineError, match=r"--track wandb: .*worldsim-engine\[track\]"):
        train(FIXTURE, tmp_path / "run", steps=1, track="wandb")
    with pytest.raises(ValueError, match="track must be one of tensorboard, trackio, wandb"):
        train(FIXTURE, tmp_path / "run", steps=1, track="neptune")  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


def test_a_service_that_refuses_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**how: Any) -> None:
        raise RuntimeError("no API key")

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=refuse))  # type: ignore[arg-type]

    with pytest.raises(MachineError, match="--track wandb: no API key"):
        Runs("wandb", tmp_path)
