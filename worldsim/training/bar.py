"""Progress for people: a bar on a terminal, a plain line now and then elsewhere."""

import os
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

PLAIN_EVERY = 30.0  # seconds
COLUMNS = (
    TextColumn("{task.description}"),
    BarColumn(),
    TextColumn("{task.completed}/{task.total}"),
    TimeElapsedColumn(),
    TimeRemainingColumn(),
    TextColumn("{task.fields[note]}"),
)


class Bar:
    """Of one stage, `first` of `steps` done already."""

    def __init__(self, name: str, steps: int, first: int) -> None:
        self._console = Console(stderr=True, quiet=os.environ.get("RANK", "0") != "0")
        self._name, self._steps, self._first = name, steps, first
        self._begun = self._shown = time.monotonic()
        self._progress = Progress(*COLUMNS, console=self._console)
        self._task = self._progress.add_task(name, total=steps, completed=first, note="")

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._console.is_terminal:
            self._progress.stop()

    def show(self, step: int, values: dict[str, float], pace: str) -> None:
        """`step` is done, with these losses, at this pace."""
        now = time.monotonic()
        rate = (step + 1 - self._first) / max(now - self._begun, 1e-6)  # updates per second
        losses = "  ".join(f"{k} {v:.4g}" for k, v in values.items())
        note = "  ".join(filter(None, (f"{rate:.2f}/s", pace, losses)))
        self._progress.update(self._task, completed=step + 1, note=note)
        if not self._console.is_terminal and now - self._shown > PLAIN_EVERY:
            self._shown = now
            left = (self._steps - step - 1) / rate / 60
            done = f"{self._name} {step + 1}/{self._steps}, {left:.0f} min left"
            self._console.print(f"{done}  {note}", soft_wrap=True)
