"""Runs that are killed and go on: nobody can tell from their curves or weights (F40).

A run is forked from the test, so that it need not import torch anew, and dies of SIGKILL. Some die
after a random while, some at a chosen system call inside of a save. There are no data loader
workers that could die (F49): a stage reads memory-mapped arrays in its own process.
"""

import hashlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from worldsim.training import commit, loop
from worldsim.training.metrics import read_metrics
from worldsim.training.native import library_for
from worldsim.training.run import train

FIXTURE = Path(__file__).parents[1] / "data" / "doom-hall"
STEPS, SIZE = 16, (32, 48)

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def go(run: Path, *, resume: bool = True) -> None:
    """Train, or go on training, with a checkpoint after every update."""
    train(
        FIXTURE,
        run,
        steps=STEPS,
        size=SIZE,
        preset="small",
        resume=resume,
        name="w",
        checkpoint_every=0.0,
    )


def forked(work: Callable[[], None]) -> int:
    """Pid of a copy of this process that does `work` and ends without any of pytest's cleaning."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), 1)
                os.dup2(nowhere.fileno(), 2)
            work()
            code = 0
        finally:
            os._exit(code)
    return pid


def ended(pid: int) -> int:
    """Exit code of a fork, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def curve(run: Path) -> list[dict[str, object]]:
    """What metrics.jsonl says, but for the time of day."""
    if not (run / "metrics.jsonl").exists():
        return []
    return [{k: v for k, v in line.items() if k != "seconds"} for line in read_metrics(run)]


def weights(run: Path) -> str:
    return hashlib.sha256((run / "world" / "model.safetensors").read_bytes()).hexdigest()


@pytest.fixture(scope="module", autouse=True)
def every_update_is_measured() -> Iterator[None]:
    """Of the curve, so that the whole of it is compared."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "METRICS_EVERY", 1)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    library_for(torch.device("cpu"))  # once, not in every fork
    run = tmp_path_factory.mktemp("runs") / "whole"
    assert ended(forked(lambda: go(run, resume=False))) == 0
    return run


def kill_after(pid: int, run: Path, updates: int, seconds: float) -> int:
    """Wait until a fork has made that many updates, and a little; its exit code."""
    while sum(1 for _ in curve(run)) < updates and os.waitpid(pid, os.WNOHANG)[0] == 0:
        time.sleep(0.005)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    return ended(pid)


def test_f40_killed_at_random_and_resumed_equals_uninterrupted(whole: Path, tmp_path: Path) -> None:
    dice, run = random.Random(0), tmp_path / "cut"
    for updates in sorted(dice.sample(range(1, STEPS), 10)):
        pid = forked(lambda: go(run))
        assert kill_after(pid, run, updates, dice.uniform(0, 0.1)) == -signal.SIGKILL
    assert ended(forked(lambda: go(run))) == 0

    assert len(curve(whole)) == STEPS
    assert curve(run) == curve(whole)
    assert weights(run) == weights(whole)


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_f40_killed_inside_a_save_and_resumed_equals_uninterrupted(
    whole: Path, tmp_path: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die_at(number: int) -> None:
        left, real = [number], getattr(os, call)

        def deadly(*args: object) -> None:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            real(*args)

        monkeypatch.setattr(commit.os, call, deadly)
        go(tmp_path / "cut")

    for number in (2, 5, 17):
        assert ended(forked(lambda n=number: die_at(n))) == -signal.SIGKILL
    assert ended(forked(lambda: go(tmp_path / "cut"))) == 0

    assert curve(tmp_path / "cut") == curve(whole)
    assert weights(tmp_path / "cut") == weights(whole)
    assert not list((tmp_path / "cut" / "checkpoints").glob("*/.tmp-*"))
