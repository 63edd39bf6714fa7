"""`worldsim doctor`: what this machine can run, and what it lacks."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from worldsim.commands.report import finish


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Say what this machine can run and what it lacks; paste the output into a bug report."""

    probe: bool = False
    """Also measure this machine and build and compare the backends (imports torch)."""
    world: str | None = None
    """World to probe with, and to build backends for. Default: doom-hall."""
    json_file: Annotated[Path | None, tyro.conf.arg(name="json")] = None
    """Also write the JSON object to this file."""

    def run(self) -> int:
        """Print the report for people on stderr and as one JSON line on stdout."""
        from worldsim import doctor

        if self.probe:
            doctor.probe(self.world)
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
            for name, item in value.items():
                if isinstance(item, dict) and "rows" in item:
                    lines += describe_backends(item)
                else:
                    lines.append(f"  {name:<14} {item or '-'}")
        elif isinstance(value, list):
            lines.append(f"{key:<10} {', '.join(map(str, value)) or '-'}")
        else:
            shown = {True: "yes", False: "no", None: "-"}.get(value, value)  # type: ignore[call-overload]
            lines.append(f"{key:<10} {shown}")
    return lines


def describe_backends(found: dict[str, Any]) -> list[str]:
    """What a probe found about the backends, a line each."""
    lines = [f"  backend        {found['choice']} (measured with {found['world']})"]
    for name, row in found["rows"].items():
        lines.append(
            f"    {name:<14} answer p50 {row['answer_ms']['p50']:.1f} ms, "
            f"tick p50 {row['busy_ms']['p50']:.1f} ms, "
            f"{row['cpu_answer_ratio']:.2f} and {row['cpu_busy_ratio']:.2f} times as quick as torch"
            + ("" if row.get("agrees", True) else ", but it does not agree with torch")
        )
    return lines
