"""The curves of a run in a tracker of the user's choice, beside RUN/metrics.jsonl.

What it is told is what the file is told, as STAGE/NAME against the updates of the stage. Each start
of a run, `--resume` too, is a curve of its own there, which begins where its checkpoint was.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from worldsim.errors import MachineError
from worldsim.training.distributed import rank
from worldsim.training.say import say

Kind = Literal["tensorboard", "trackio", "wandb"]
PROJECT = "worldsim"


class Tracker(Protocol):
    """Whoever shows curves."""

    def log(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        """One measurement."""
        ...

    def close(self) -> None: ...


@contextmanager
def tracking(kind: Kind | None, run: Path) -> Iterator[Tracker | None]:
    """A tracker for the run in the folder `run`, None if there is to be none: one process tells.

    Raises MachineError if it cannot begin (not logged in, no network).
    """
    if kind is None or rank() > 0:
        yield None
        return
    tracker: Tracker = TensorBoard(run) if kind == "tensorboard" else Runs(kind, run)
    try:
        yield tracker
    finally:
        tracker.close()


def package(kind: Kind) -> Any:
    """The package that shows the curves. Raises ValueError for a kind that is none, MachineError
    if it is not installed."""
    if kind not in get_args(Kind):
        raise ValueError(f"track must be one of {', '.join(get_args(Kind))}, got {kind!r}")
    try:
        return import_module(kind)
    except ImportError as error:
        raise MachineError(
            f"--track {kind}: {error}; `pip install 'worldsim-engine[track]'` brings it"
        ) from error


class TensorBoard:
    """Event files in RUN/tensorboard/START: `tensorboard --logdir RUN`."""

    def __init__(self, run: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = run / "tensorboard"
        starts = len(list(folder.iterdir())) if folder.is_dir() else 0
        self._writer: Any = SummaryWriter(folder / str(starts))

    def log(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(f"{stage}/{name}", value, step)

    def close(self) -> None:
        self._writer.close()


class Runs:
    """trackio and wandb, which have the same words for it; a run is named after its folder."""

    def __init__(self, kind: Kind, run: Path) -> None:
        self._kind, self._module, self._stages = kind, package(kind), set[str]()
        self._is_lost = False
        here = {"dir": run} if kind == "wandb" else {}  # else it writes to where one stands
        try:
            self._module.init(project=PROJECT, name=run.resolve().name, **here)
        except Exception as error:  # of their own kinds, which change
            raise MachineError(f"--track {kind}: {error}") from error

    def log(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        clock = f"{stage}/step"
        known = {f"{stage}/{k}": v for k, v in values.items() if math.isfinite(v)}
        if self._is_lost:
            return
        with self._forgiven():
            if stage not in self._stages and hasattr(self._module, "define_metric"):
                self._module.define_metric(f"{stage}/*", step_metric=clock)  # each begins at 0
            self._stages.add(stage)
            self._module.log({**known, clock: step})

    def close(self) -> None:
        with self._forgiven():
            self._module.finish()

    @contextmanager
    def _forgiven(self) -> Iterator[None]:
        """Training goes on without a service that fails: metrics.jsonl has it all."""
        try:
            yield
        except Exception as error:  # of their own kinds, which change
            self._is_lost = True
            say(f"--track {self._kind}: {error}; from here on only metrics.jsonl is told")
