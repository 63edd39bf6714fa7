"""How long each stage trains: fixed before the first update, and written down."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from worldsim.errors import CheckpointError


@dataclass(frozen=True, kw_only=True)
class Shares:
    """Of the minutes or updates: what the tokenizer gets, and then, of what it leaves, the latent
    actions; the dynamics gets the rest. Each 0..1."""

    tokenizer: float
    actions: float = 0.0

    def split(self, whole: float) -> tuple[float, float, float]:
        """The parts of `whole` for tokenizer, actions and dynamics."""
        tokenizer = whole * self.tokenizer
        actions = (whole - tokenizer) * self.actions
        return tokenizer, actions, whole - tokenizer - actions


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Updates of each stage."""

    tokenizer_steps: int
    actions_steps: int = 0
    dynamics_steps: int

    def described(self) -> str:
        """For people."""
        actions = f"{self.actions_steps} latent actions, " if self.actions_steps else ""
        return f"{self.tokenizer_steps} tokenizer updates, {actions}{self.dynamics_steps} dynamics"

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


def plan_from_minutes(minutes: float, shares: Shares, rates: tuple[float, float, float]) -> Plan:
    """Fill `minutes` at measured `rates`, updates per second of tokenizer, actions, dynamics."""
    parts = shares.split(60 * minutes)
    steps = [int(seconds * rate) for seconds, rate in zip(parts, rates, strict=True)]
    return Plan(tokenizer_steps=steps[0], actions_steps=steps[1], dynamics_steps=steps[2])


def plan_from_steps(steps: int, shares: Shares) -> Plan:
    """Split `steps` updates between the stages."""
    tokenizer, actions = (int(part) for part in shares.split(steps)[:2])
    return Plan(
        tokenizer_steps=tokenizer, actions_steps=actions, dynamics_steps=steps - tokenizer - actions
    )
