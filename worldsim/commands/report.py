"""How a measuring verb ends: one JSON object, last on stdout and in a file if wanted."""

import json
from collections.abc import Mapping
from pathlib import Path


def finish(report: Mapping[str, object], json_file: Path | None) -> None:
    """Print `report` as one line on stdout; the same line goes into `json_file`."""
    line = json.dumps(report)
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(line + "\n", encoding="utf-8")
    print(line)
