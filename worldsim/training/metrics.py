"""RUN/metrics.jsonl: one line per measurement, each step at most once however often a run stops."""

import json
import math
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from worldsim.training.distributed import rank

FILE = "metrics.jsonl"


class Metrics:
    """Appends the lines of one stage; opening it drops those that its checkpoint has not seen."""

    def __init__(self, run: Path, stage: str, first: int) -> None:
        """`first` is the step that comes next."""
        self._stage = stage
        path = run / FILE
        if rank() > 0:
            path = Path(os.devnull)
        elif path.exists():
            _truncate(path, stage, first)
        self._file = path.open("a")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def write(self, step: int, values: dict[str, float]) -> None:
        """One line."""
        line = {"stage": self._stage, "step": step, "seconds": time.time(), **finite(values)}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def sync(self) -> None:
        """What was written must not be older than the checkpoint that is about to be."""
        if rank() == 0:
            os.fsync(self._file.fileno())


def finite(values: dict[str, float]) -> dict[str, float | None]:
    """Rounded to six digits; None for what is not finite, since JSON has no word for it."""
    return {k: round(v, 6) if math.isfinite(v) else None for k, v in values.items()}


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """All whole lines of RUN/metrics.jsonl."""
    return [line for text in (run / FILE).read_text().splitlines() if (line := _decode(text))]


def _truncate(path: Path, stage: str, first: int) -> None:
    kept = [
        text
        for text in path.read_text().splitlines()
        if (line := _decode(text)) and (line["stage"] != stage or line["step"] < first)
    ]
    draft = path.with_name(f".{path.name}.tmp")
    draft.write_text("".join(f"{text}\n" for text in kept))
    os.replace(draft, path)


def _decode(text: str) -> dict[str, Any] | None:
    """A line; None for half of one, which is what a killed run may leave at the end."""
    try:
        line = json.loads(text)
    except json.JSONDecodeError:
        return None
    return line if isinstance(line, dict) and {"stage", "step"} <= set(line) else None
