"""How long each stage trains: fixed before the first update, and written down."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from worldsim.errors import CheckpointError


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Updates of each stage."""

    tokenizer_steps: int
    dynamics_steps: int

    def write(self, run: Path) -> None:
        """To RUN/plan.json."""
        draft = run / ".plan.json.tmp"
        draft.write_text(json.dumps(asdict(self), indent=2) + "\n")
        os.replace(draft, run / "plan.json")


def read_plan(run: Path) -> Plan:
    """The plan that a run was started with; CheckpointError if it cannot be read."""
    path = run / "plan.json"
    try:
        return Plan(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: {error}") from error


def plan_from_minutes(
    minutes: float, *, tokenizer_rate: float, dynamics_rate: float, tokenizer_share: float
) -> Plan:
    """Fill `minutes` at measured rates (updates per second)."""
    seconds = 60 * minutes
    return Plan(
        tokenizer_steps=int(seconds * tokenizer_share * tokenizer_rate),
        dynamics_steps=int(seconds * (1 - tokenizer_share) * dynamics_rate),
    )


def plan_from_steps(steps: int, *, tokenizer_share: float) -> Plan:
    """Split `steps` updates between the two stages."""
    tokenizer = int(steps * tokenizer_share)
    return Plan(tokenizer_steps=tokenizer, dynamics_steps=steps - tokenizer)
