"""`worldsim data`: what is in a folder of videos, and what is wrong with it."""

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from worldsim.commands.report import finish

if TYPE_CHECKING:
    from worldsim.data.scan import ScanResult


@dataclass(frozen=True, kw_only=True)
class Data:
    """Say per file what it is or why it is skipped; the last line on stdout is one JSON object.

    Exit code 3 only if no file at all can be used.
    """

    action: tyro.conf.Positional[Literal["scan"]]
    """What to do."""
    directory: tyro.conf.Positional[Path]
    """Folder of videos, searched with the folders below it."""
    json_file: Annotated[Path | None, tyro.conf.arg(name="json")] = None
    """Also write the JSON object to this file."""

    def run(self) -> int:
        """Scan, report, return the exit code."""
        from worldsim.data.scan import scan
        from worldsim.errors import DataError

        results = scan(self.directory, report=say_result)
        usable = [result for result in results if result.ok]
        finish(
            {
                "command": "data scan",
                "usable": len(usable),
                "skipped": len(results) - len(usable),
                "frames": sum(result.frames or 0 for result in usable),
                "files": [asdict(result) for result in results],
            },
            self.json_file,
        )
        return 0 if usable else DataError.exit_code


def say_result(result: "ScanResult") -> None:
    """One line for a person."""
    if result.ok and result.size is not None:
        height, width = result.size
        sound = "with sound" if result.has_audio else "silent"
        what = f"{result.frames} frames, {width}x{height}, {result.fps:g} fps, {sound}"
    else:
        what = f"skipped: {result.reason}"
    print(f"{result.path}: {what}", file=sys.stderr)
