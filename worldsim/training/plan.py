"""How long each stage trains: fixed before the first update, and written down."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from worldsim.errors import CheckpointError

# in the order in which they run
STAGES = ("tokenizer", "actions", "objects", "dynamics", "sound", "features")


@dataclass(frozen=True)
class Plan:
    """Updates of each stage; a stage that is not in it does not run."""

    steps: dict[str, int]

    def __getitem__(self, stage: str) -> int:
        return self.steps.get(stage, 0)

    def described(self) -> str:
        """For people."""
        return ", ".join(f"{n} {stage}" for stage, n in self.steps.items()) + " updates"

    def write(self, run: Path) -> None:
        """To RUN/plan.json."""
        draft = run / ".plan.json.tmp"
        draft.write_text(json.dumps(asdict(self), indent=2) + "\n")
        os.replace(draft, run / "plan.json")


def read_plan(run: Path) -> Plan:
    """The plan that a run was started with; CheckpointError if it cannot be read."""
    path = run / "plan.json"
    try:
        steps = json.loads(path.read_text())["steps"]
        return Plan({str(stage): int(n) for stage, n in steps.items()})
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path}: is not a plan ({type(error).__name__}: {error})") from error


def plan_from_minutes(
    minutes: float, shares: Mapping[str, float], rates: Mapping[str, float]
) -> Plan:
    """Fill `minutes` at measured `rates`, updates per second: each stage gets its share, the
    `shares` being parts of their sum."""
    whole = 60 * minutes / sum(shares.values())
    return Plan({stage: int(whole * share * rates[stage]) for stage, share in shares.items()})


def plan_from_steps(steps: int, shares: Mapping[str, float]) -> Plan:
    """Split `steps` updates; the largest part, the last of those, gets what rounding leaves."""
    whole = sum(shares.values())
    parts = {stage: int(steps * share / whole) for stage, share in shares.items()}
    largest = max(reversed(list(shares)), key=lambda stage: shares[stage])
    return Plan(parts | {largest: parts[largest] + steps - sum(parts.values())})
