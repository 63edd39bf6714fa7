"""`worldsim eval`: grade a world on held-out recordings."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from worldsim.commands.report import finish, say
from worldsim.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Eval:
    """Grade a world on held-out recordings, beside persistence, mean picture and replayed footage.

    Ends with one JSON line on stdout; every quantity is {"value", "lo", "hi", "n"}, null where it
    cannot be measured, with the reason.
    """

    world: tyro.conf.Positional[str] = "doom-hall"
    """Name of a shipped world, or a world folder."""
    data: Path
    """Folder of held-out recordings (videos; with side files for everything driven by controls)."""
    blocks: str = "world"
    """What to grade, comma-separated: world, lam, audio, objects, memory, long."""
    tier: Literal["smoke", "standard", "full"] = "standard"
    """How much: at most about 1, 15 or 90 minutes on two CPU cores."""
    twin: str | None = None
    """A second world, graded on the same moments; differences are paired."""
    device: str = "cpu"
    """Where the world runs: cpu, cuda, cuda:1, ..."""
    threads: int = 0
    """Intra-op threads; 0 = one per core."""
    json_file: Annotated[Path | None, tyro.conf.arg(name="json")] = None
    """Also write the JSON object to this file."""
    out: Path | None = None
    """Folder for pictures: strips.png and rollout.mp4, real against imagined."""
    card: bool = False
    """Also write the figures into the world's config.json and model card."""

    def __post_init__(self) -> None:
        if self.threads < 0:
            raise ValueError(f"--threads must be >= 0, got {self.threads}")

    def run(self) -> int:
        """Grade, print one JSON line, return the exit code."""
        from worldsim.evaluation.run import BLOCKS

        blocks = [block.strip() for block in self.blocks.split(",") if block.strip()]
        unknown = [block for block in blocks if block not in BLOCKS]
        if unknown or not blocks:
            name = unknown[0] if unknown else ""
            say(f"--blocks: there is no block '{name}'; there are {', '.join(BLOCKS)}")
            return 2
        if not self.data.is_dir():
            raise DataError(f"{self.data}: no such folder; --data takes a folder of recordings")
        report = self._evaluate(blocks)
        if self.card:
            from worldsim.folder import find_world
            from worldsim.training.card import record_measurement

            record_measurement(find_world(self.world), report)
        finish(report, self.json_file)
        return 0

    def _evaluate(self, blocks: list[str]) -> dict[str, object]:
        from worldsim.runtime import available_cores, prepare

        prepare(threads=self.threads or available_cores())
        from worldsim.evaluation.run import evaluate
        from worldsim.world import World

        world = World.load(self.world, device=self.device)
        twin = None if self.twin is None else World.load(self.twin, device=self.device)
        return evaluate(
            world,
            self.data,
            tier=self.tier,
            blocks=blocks,
            twin=twin,
            out=self.out,
            log=say,
        )
