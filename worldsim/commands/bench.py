"""`worldsim bench`: how fast, measured, with tails."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from worldsim.backends.names import Backend
from worldsim.commands.report import finish, say
from worldsim.errors import DataError, MachineError

FIXTURE = Path(__file__).parents[2] / "tests" / "data" / "doom-hall"


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Measure speed. Tables go to stderr; the last line on stdout is one JSON object.

    latency: action to encoded frame in the engine alone, per stage, and the whole tick (busy).
    socket: action to frame through a real socket, against a server in a process of its own.
    load: several players, and viewers of the first, at one server: does every one get its frames?
    curve: how many players the machine holds, and what 50 viewers cost the one whom they watch.
    context: an old world against a young one, and the trunk against twins with attention over time.
    train: updates of the dynamics against a plain loop in float32.
    cold: from the start of a process to its first frame, and what imports take.
    model: parameters, operations and bytes of every part, beside what the device does at best.
    """

    name: tyro.conf.Positional[
        Literal["latency", "socket", "load", "curve", "context", "train", "cold", "model"]
    ]
    """What to measure."""
    world: str = "doom-hall"
    """Name of a shipped world, or a world folder."""
    frames: int | None = None
    """latency: ticks to time (default 2000). context: age of the old world (default 10000)."""
    seconds: float = 60.0
    """socket, load, curve (each of its loads), train: how long to play or train, s; p99 needs a
    thousand frames."""
    clients: int = 4
    """load: players at the same time."""
    viewers: int = 0
    """load: connections that watch the first player."""
    rate: float | None = None
    """load, curve: ticks per second, Hz. Default: the world's own."""
    k: Literal[1, 2, 4] = 2
    """Flow steps per frame."""
    backend: Backend = "auto"
    """What computes the ticks; auto: what `worldsim doctor --probe` found quickest here."""
    threads: int = 1
    """Intra-op threads of the engine."""
    data: Path | None = None
    """train: folder of recordings with side files. Default: the 17 s that lie in a checkout."""
    preset: str | None = None
    """model: a preset of `worldsim train`, in place of a world; nothing is timed."""
    device: str = "cpu"
    """model, train: cpu, cuda, cuda:1, ..."""
    runs: int = 5
    """cold: processes of each kind."""
    card: bool = False
    """latency: also write the figures into the world's config.json and model card."""
    plot: Path | None = None
    """Where the plot goes. Default: bench-NAME.png here."""
    json_file: Annotated[Path | None, tyro.conf.arg(name="json")] = None
    """Also write the JSON object to this file."""

    def __post_init__(self) -> None:
        if self.frames is not None and self.frames < 1:
            raise ValueError(f"--frames must be >= 1, got {self.frames}")
        if self.runs < 1:
            raise ValueError(f"--runs must be >= 1, got {self.runs}")
        if not 0 < self.seconds < math.inf:
            raise ValueError(f"--seconds must be > 0, got {self.seconds}")
        if self.rate is not None and not 0 < self.rate < math.inf:
            raise ValueError(f"--rate must be > 0, got {self.rate}")
        if self.clients < 1 or self.viewers < 0:
            raise ValueError(
                f"--clients must be >= 1 and --viewers >= 0, got {self.clients} and {self.viewers}"
            )
        if self.card and self.name != "latency":
            raise ValueError("--card is for latency")
        if self.threads < 1:
            raise ValueError(f"--threads must be >= 1, got {self.threads}")

    def run(self) -> int:
        """Measure, draw, print the table and the JSON line, return the exit code."""
        from worldsim.runtime import prepare

        prepare(threads=self.threads)
        from worldsim.benchmarks.shown import SHOWN

        measure = getattr(self, f"_{self.name}")
        report = {"command": f"bench {self.name}"} | measure()
        shown = SHOWN[self.name](report)
        plot = self.plot or Path(f"bench-{self.name}.png")
        say(f"{shown.text}\nconditions: {json.dumps(report['env'])}")
        finish(report, self.json_file)
        try:  # when all is told: no measurement is lost
            shown.draw(plot)
        except (OSError, ValueError) as error:  # ValueError: Pillow does not know the suffix
            raise MachineError(f"--plot {plot}: cannot be written: {error}") from error
        say(f"the plot is {plot}")
        return 0

    def _latency(self) -> dict[str, object]:
        from worldsim.benchmarks.latency import measure_latency
        from worldsim.world import World

        world = World.load(self.world, backend=self.backend)
        report = measure_latency(world, frames=self.frames or 2000, flow_steps=self.k)
        if self.card:
            from worldsim.folder import find_world
            from worldsim.training.card import record_speed

            record_speed(find_world(self.world), report)
        return report

    def _socket(self) -> dict[str, object]:
        from worldsim.benchmarks.loopback import measure_loopback

        return measure_loopback(
            self.world, seconds=self.seconds, flow_steps=self.k, backend=self.backend
        )

    def _load(self) -> dict[str, object]:
        from worldsim.benchmarks.load import measure_load

        return measure_load(
            self.world,
            clients=self.clients,
            viewers=self.viewers,
            seconds=self.seconds,
            rate=self.rate,
            flow_steps=self.k,
            backend=self.backend,
        )

    def _curve(self) -> dict[str, object]:
        from worldsim.benchmarks.curve import measure_curve

        return measure_curve(
            self.world,
            seconds=self.seconds,
            rate=self.rate,
            flow_steps=self.k,
            backend=self.backend,
            say=say,
        )

    def _context(self) -> dict[str, object]:
        from worldsim.benchmarks.context import measure_context
        from worldsim.world import World

        world = World.load(self.world, flow_steps=self.k)
        return measure_context(world, frames=self.frames or 10_000, say=say)

    def _train(self) -> dict[str, object]:
        from worldsim.benchmarks.train import measure_training

        data = self.data or FIXTURE
        if not data.is_dir():
            raise DataError(f"{data}: no such folder; --data takes a folder of recordings")
        return measure_training(self.world, data, seconds=self.seconds, device=self.device, say=say)

    def _cold(self) -> dict[str, object]:
        from worldsim.benchmarks.cold import measure_cold

        return measure_cold(self.world, runs=self.runs)

    def _model(self) -> dict[str, object]:
        from worldsim.benchmarks.model import measure_model
        from worldsim.training.begin import config_of
        from worldsim.training.presets import PRESETS
        from worldsim.world import World

        if self.preset is None:
            world = World.load(self.world, device=self.device)
            return measure_model(world.config, flow_steps=self.k, device=self.device, world=world)
        if self.preset not in PRESETS:
            raise SystemExit(f"--preset {self.preset}: there are {', '.join(PRESETS)}")
        config = config_of(PRESETS[self.preset], self.preset)
        return measure_model(config, flow_steps=self.k, device=self.device)
