"""`worldsim bench`: how fast, measured, with tails."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import tyro

from worldsim.backends.names import Backend


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Measure speed. Tables go to stderr; the last line on stdout is one JSON object.

    latency: action to encoded frame in the engine alone, per stage, and the whole tick (busy).
    socket: action to frame through a real socket, against a server in a process of its own.
    load: several players, and viewers of the first, at one server: does every one get its frames?
    """

    name: tyro.conf.Positional[Literal["latency", "socket", "load"]]
    """What to measure."""
    world: str = "doom-hall"
    """Name of a shipped world, or a world folder."""
    frames: int = 2000
    """latency: ticks to time."""
    seconds: float = 60.0
    """socket, load: how long to play, s; p99 needs a thousand frames."""
    clients: int = 4
    """load: players at the same time."""
    viewers: int = 0
    """load: connections that watch the first player."""
    rate: float | None = None
    """load: ticks per second, Hz. Default: the world's own."""
    k: Literal[1, 2, 4] = 2
    """Flow steps per frame."""
    backend: Backend = "auto"
    """What computes the ticks; auto: what `worldsim doctor --probe` found quickest here."""
    threads: int = 1
    """Intra-op threads of the engine."""
    json_file: Annotated[Path | None, tyro.conf.arg(name="json")] = None
    """Also write the JSON object to this file."""

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ValueError(f"--frames must be >= 1, got {self.frames}")
        if self.seconds <= 0:
            raise ValueError(f"--seconds must be > 0, got {self.seconds}")
        if self.clients < 1 or self.viewers < 0:
            raise ValueError(
                f"--clients must be >= 1 and --viewers >= 0, got {self.clients} and {self.viewers}"
            )
        if self.threads < 1:
            raise ValueError(f"--threads must be >= 1, got {self.threads}")

    def run(self) -> int:
        """Measure, print the table and the JSON line, return the exit code."""
        from worldsim.runtime import prepare

        prepare(threads=self.threads)
        measures = {"latency": self._latency, "socket": self._socket, "load": self._load}
        found = measures[self.name]()
        report = {"command": f"bench {self.name}", "backend": self.backend} | found
        print((load_table if self.name == "load" else as_table)(self.name, report), file=sys.stderr)
        line = json.dumps(report)
        if self.json_file is not None:
            self.json_file.parent.mkdir(parents=True, exist_ok=True)
            self.json_file.write_text(line + "\n", encoding="utf-8")
        print(line)
        return 0

    def _latency(self) -> dict[str, object]:
        from worldsim.benchmarks.latency import measure_latency
        from worldsim.world import World

        world = World.load(self.world, backend=self.backend)
        return measure_latency(world, frames=self.frames, flow_steps=self.k)

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


def load_table(name: str, report: dict[str, object]) -> str:
    """What people read of a load: one line per kind of figure."""
    from worldsim.benchmarks.timing import table

    figures = cast(dict[str, Any], report)
    rows = {"frame spacing": figures["spacing_ms"], "batch": figures["batch_ms"]}
    summary = (
        f"{figures['clients']} players, {figures['viewers']} viewers at {figures['rate']:g} Hz: "
        f"at least {figures['fps_min']:.2f} frames/s each, "
        f"spacing p99 {figures['spacing_p99_ticks']:.2f} ticks, "
        f"missed {100 * figures['missed_fraction']:.2f} %, "
        f"degraded {100 * figures['degraded_fraction']:.2f} %"
    )
    return table(name, rows) + "\n" + summary


def as_table(name: str, report: dict[str, object]) -> str:
    """What people read: percentiles, then what was missed."""
    from worldsim.benchmarks.timing import table

    figures = cast(dict[str, Any], report)
    rows = {"action to frame": {k: figures[f"{k}_ms"] for k in ("p50", "p95", "p99", "max")}}
    for key, label in (("busy_ms", "busy (whole tick)"), ("spacing_ms", "frame spacing")):
        if key in figures:
            rows[label] = figures[key]
    rows |= {f"  {stage}": row for stage, row in figures["stages"].items()}
    share = 100 * figures["missed_fraction"]
    missed = f"missed {figures['missed']} ({share:.2f} %), {figures['frames']} frames arrived"
    missed += f", budget {figures['budget_ms']} ms"
    return table(name, rows) + "\n" + missed
