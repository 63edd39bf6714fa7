"""Two processes with two lanes each are one process with four."""

import json
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from line import Line
from safetensors.torch import load_file
from test_resume import forked

from worldsim.errors import TrainingError
from worldsim.training import distributed, loop
from worldsim.training.loop import Care, fit
from worldsim.training.metrics import read_metrics
from worldsim.training.run import train
from worldsim.training.streams import Streams

FIXTURE = Path(__file__).parents[1] / "data" / "doom-hall"
STEPS = 12

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


class Quiet(Line):
    """A stage that draws nothing by chance: its loss is a mean over its lanes."""

    name = "quiet"

    def __init__(self) -> None:
        super().__init__()
        share = distributed.rank(), distributed.size()
        source = [np.linspace(-1, 1, 100)]
        self.streams = Streams([source], lanes=4, ticks=3, jump=0.1, seed=0, share=share)
        self.carried = torch.zeros(4 // distributed.size(), 1)

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        # unlike real stages it has fewer lanes to a process where there are more processes
        if state["carried"].shape == self.carried.shape:
            super().load_state_dict(state)

    def update(self, progress: float) -> dict[str, torch.Tensor]:
        x = torch.from_numpy(np.asarray(self.streams.next().arrays[0])).float()
        error = self.model(x[..., None])[..., 0] - 3 * x - 0.1 * self.carried
        self.carried = x[:, -1:]
        loss = error.square().mean()
        loop.take_step(self.optimizers, loss, self.model)
        return {"loss": loss.detach()}


def together(work: Callable[[], None], count: int = 2) -> list[int]:
    """Exit codes of `count` forks that know each other as those that torchrun starts."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world = {"WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}

    def one(rank: int) -> None:
        os.environ.update({k: str(v) for k, v in {**world, "RANK": rank}.items()})
        work()

    pids = [forked(lambda rank=rank: one(rank)) for rank in range(count)]
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


def fit_quiet(run: Path, steps: int = STEPS) -> None:
    """Each process writes the weights that it has at the end."""
    run.mkdir(exist_ok=True)
    loop.METRICS_EVERY = 1
    with distributed.processes():
        stage = Quiet()
        fit(stage, steps=steps, run=run, care=Care(resume=True))
        weights = {k: v.tolist() for k, v in stage.model.state_dict().items()}
        (run / f"weights-{distributed.rank()}.json").write_text(json.dumps(weights))


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in read_metrics(run)]


def weights(run: Path, rank: int = 0) -> list[float]:
    found = json.loads((run / f"weights-{rank}.json").read_text())
    return [*found["weight"][0], *found["bias"]]


def test_two_processes_learn_as_one_with_twice_the_lanes(tmp_path: Path) -> None:
    assert together(lambda: fit_quiet(tmp_path / "one"), count=1) == [0]
    assert together(lambda: fit_quiet(tmp_path / "two")) == [0, 0]

    assert len(losses(tmp_path / "two")) == STEPS
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
    assert losses(tmp_path / "two")[-1] < losses(tmp_path / "two")[0]
    assert weights(tmp_path / "two") == pytest.approx(weights(tmp_path / "one"), rel=1e-4)
    assert weights(tmp_path / "two", rank=1) == weights(tmp_path / "two")


def test_each_process_goes_on_with_its_own_lanes(tmp_path: Path) -> None:
    run = tmp_path / "two"
    assert together(lambda: fit_quiet(run)) == [0, 0]

    (folder, *_) = sorted((run / "checkpoints" / "quiet").iterdir(), reverse=True)
    mine, other = (load_file(folder / f"{p}.safetensors") for p in ("carried", "carried-1"))
    assert mine["carried"].shape == other["carried"].shape == (2, 1)
    assert not torch.equal(mine["carried"], other["carried"])
    trainer = json.loads((folder / "trainer.json").read_text())
    assert trainer["world_size"] == 2


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_f52_a_run_goes_on_with_another_number_of_processes(
    before: int, after: int, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert together(lambda: fit_quiet(run), before) == [0] * before
    old = weights(run)

    assert together(lambda: fit_quiet(run, 2 * STEPS), after) == [0] * after

    assert [line["step"] for line in read_metrics(run)] == list(range(2 * STEPS))
    assert np.mean(losses(run)[-4:]) < np.mean(losses(run)[:4])
    assert weights(run) != old
    assert all(weights(run, rank) == weights(run) for rank in range(after))


def test_f50_when_one_process_is_killed_the_others_end_too(tmp_path: Path) -> None:
    def fit_until_killed() -> None:
        def update(stage: Quiet, progress: float) -> dict[str, torch.Tensor]:
            if distributed.rank() == 1 and progress >= 0.5:
                os.kill(os.getpid(), signal.SIGKILL)
            return learn(stage, progress)

        learn, Quiet.update = Quiet.update, update  # type: ignore[method-assign, assignment]
        try:
            fit_quiet(tmp_path / "two")
        except TrainingError as error:
            (tmp_path / "said").write_text(str(error))
            raise

    begun = time.monotonic()
    first, second = together(fit_until_killed)

    assert second == -signal.SIGKILL
    assert first not in (0, second)
    assert time.monotonic() - begun < 60
    assert "another process of this run has ended; --resume" in (tmp_path / "said").read_text()
    assert not (tmp_path / "two" / "weights-0.json").exists()


def test_lanes_are_shared_out() -> None:
    def streams(share: tuple[int, int]) -> Streams:
        return Streams(
            [[np.arange(50.0)]], lanes=4, ticks=3, jump=0.3, seed=0, footage="a", share=share
        )

    whole, parts = streams((0, 1)), [streams((i, 2)) for i in range(2)]
    for _ in range(20):
        chunk, pieces = whole.next(), [part.next() for part in parts]
        assert np.array_equal(chunk.arrays[0], np.concatenate([p.arrays[0] for p in pieces]))
        assert np.array_equal(chunk.jumped, np.concatenate([p.jumped for p in pieces]))
    assert parts[0].position() == parts[1].position() == whole.position()
    with pytest.raises(ValueError, match="4 lanes cannot be shared by 3"):
        streams((0, 3))


def test_two_processes_train_one_world(tmp_path: Path) -> None:
    def go() -> None:
        run = tmp_path / "run"
        train(FIXTURE, run, steps=8, preset="small", size=(32, 48), actions="labelled", name="w")

    assert together(go) == [0, 0]
    assert (tmp_path / "run" / "world" / "config.json").is_file()
    steps = [(line["stage"], line["step"]) for line in read_metrics(tmp_path / "run")]
    assert steps and len(set(steps)) == len(steps)
