"""From recorded video to a world that plays, end to end, in a few updates."""

import json
from pathlib import Path

import numpy as np
import pytest

from worldsim.errors import DataError
from worldsim.training.run import train
from worldsim.world import World

FIXTURE = Path(__file__).parents[1] / "fixtures" / "doom-hall"
SIZE = (32, 48)  # pixels: small, so that a few updates take seconds


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder after eight updates on the recorded fixture."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    train(FIXTURE, folder, steps=8, size=SIZE, tokenizer_share=0.5)
    return folder


def test_a_few_updates_give_a_world_that_plays(run: Path) -> None:
    world = World.load(run / "world")

    state = world.reset(seed=0)
    state, out = world.step(state, world.bindings["turn_left"])

    assert world.fps == 35.0
    assert out.frame.shape == (1, *SIZE, 3)
    assert list(world.bindings)[:3] == ["noop", "forward", "backward"]


def test_the_plan_and_the_metrics_are_written(run: Path) -> None:
    plan = json.loads((run / "plan.json").read_text())
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]

    assert plan == {"tokenizer_steps": 4, "dynamics_steps": 4}
    assert {line["stage"] for line in lines} == {"tokenizer", "dynamics"}
    assert all(np.isfinite(line["seconds"]) for line in lines)


def test_the_card_tells_of_the_run(run: Path) -> None:
    card = (run / "world" / "README.md").read_text()

    assert "AI-generated" in card
    assert "| 4 | 4 |" in card


def test_init_continues_from_the_world_and_keeps_its_account(run: Path, tmp_path: Path) -> None:
    world = run / "world"

    train(FIXTURE, tmp_path / "more", steps=2, init=world, tokenizer_share=0.0)

    history = json.loads((tmp_path / "more" / "world" / "config.json").read_text())["training"]
    assert [h["dynamics_steps"] for h in history["history"]] == [4, 2]


def test_resume_of_a_finished_run_trains_nothing_more(run: Path) -> None:
    before = (run / "metrics.jsonl").read_text()

    train(FIXTURE, run, steps=8, size=SIZE, resume=True)

    assert (run / "metrics.jsonl").read_text() == before


def test_a_folder_without_videos_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no usable video"):
        train(tmp_path / "empty", tmp_path / "out", steps=2)
