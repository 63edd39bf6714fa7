"""`worldsim doctor`: what this machine can run, and what it lacks."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from worldsim.commands.report import finish


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Say what this machine can run and what it lacks; paste the output into a bug report."""

    probe: bool = False
    """Also measure this machine and the default world's frame time (imports torch)."""
    json_file: Annotated[Path | None, tyro.conf.arg(name="json")] = None
    """Also write the JSON object to this file."""

    def run(self) -> int:
        """Print the report for people on stderr and as one JSON line on stdout."""
        from worldsim import doctor

        if self.probe:
            doctor.probe()
        found = doctor.report()
        problems = doctor.problems(found)
        for line in describe(found):
            print(line, file=sys.stderr)
        for line in problems:
            print(f"note: {line}", file=sys.stderr)
        finish({**found, "problems": problems}, self.json_file)
        return 0


def describe(found: dict[str, object]) -> list[str]:
    """The report as aligned lines."""
    lines = []
    for key, value in found.items():
        if isinstance(value, dict):
            lines.append(f"{key}:")
            lines += [f"  {name:<14} {item or '-'}" for name, item in value.items()]
        elif isinstance(value, list):
            lines.append(f"{key:<10} {', '.join(map(str, value)) or '-'}")
        else:
            shown = {True: "yes", False: "no", None: "-"}.get(value, value)  # type: ignore[call-overload]
            lines.append(f"{key:<10} {shown}")
    return lines
