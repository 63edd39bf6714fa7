"""How a measuring verb speaks: for people on stderr; at its end one JSON object, last on stdout and
in a file if wanted."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from worldsim.errors import MachineError


def say(text: str) -> None:
    """A line for people; stdout is for the JSON line."""
    print(text, file=sys.stderr, flush=True)


def finish(report: Mapping[str, object], json_file: Path | None) -> None:
    """Print `report` as one line on stdout; the same line goes into `json_file`.

    Raises MachineError if that cannot be written, when all is printed: no measurement is lost.
    """
    line = json.dumps(report)
    print(line, flush=True)
    if json_file is None:
        return
    try:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(line + "\n", encoding="utf-8")
    except OSError as error:
        raise MachineError(f"--json {json_file}: cannot be written: {error.strerror}") from error
