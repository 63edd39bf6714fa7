"""How long from a key to its frame, through a real socket? What a player feels, display excluded.

A server in a process of its own, one client on the loopback device. Open loop: actions are due on a
fixed schedule, one per tick at a random moment within it, whether or not frames arrive; latency
runs from when an action was due to the first frame that reflects it or a newer one, so a stall
shows in every action that it delays. It contains the wait for the next tick (half a period on
average).

A missed tick is one that was due on the server and brought no frame to the client. The limits are
the processor and the phase of the action. Run it with `worldsim bench socket`. (The file is not
called socket.py: run as a script it would shadow the standard library's.)
"""

import asyncio
import json
import math
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from worldsim.benchmarks.timing import environment, percentiles, summary
from worldsim.errors import MachineError

if TYPE_CHECKING:
    from worldsim.clients.async_client import AsyncClient
    from worldsim.server.protocol import Frame

WARMUP_SECONDS = 2.0
START_SECONDS = 60.0  # for the server to load its world
GRACE = 5.0  # seconds that a single frame may take before the run is given up
HOLD = 12  # ticks that each action is held
STAGES = ("wait_ms", "predict_ms", "head_ms", "decode_ms", "encode_ms", "trunk_ms")


@dataclass(frozen=True)
class Arrival:
    """A frame at the client; times in seconds on the client's monotonic clock."""

    at: float
    header: "Frame"


@dataclass(frozen=True)
class Due:
    """An action, and when it should have been sent."""

    seq: int
    at: float


def measure_loopback(
    world: str, *, seconds: float, flow_steps: int, backend: str
) -> dict[str, object]:
    """Start a server for `world`, play for `seconds`, stop it; JSON-ready.

    Raises MachineError when the server does not come up or stops answering.
    """
    with serving(world, flow_steps, ("--backend", backend)) as (url, process):
        found = asyncio.run(_play(url, process, seconds))
        used = backend_of(url)
    common = {"world": world, "backend": used, "k": flow_steps, "env": environment()}
    return {**found, **common}


def summarize(
    due: Sequence[Due], arrivals: Sequence[Arrival], *, period: float
) -> dict[str, object]:
    """The figures of a run from raw times; pure, so that it can be tested with an invented stall.

    Actions that no frame had answered when the run ended are left out. MachineError if nothing is.
    """
    latencies = list(_latencies(due, arrivals))
    if not latencies or len(arrivals) < 2:
        raise MachineError("too short a run: no frame answered an action; play for longer")
    span = (arrivals[-1].header.due_us - arrivals[0].header.due_us) / 1e6
    ticks = round(span / period) + 1
    missed = max(0, ticks - len(arrivals))
    spacing = [1e3 * (b.at - a.at) for a, b in pairwise(arrivals)]
    headers = [arrival.header for arrival in arrivals]
    # a header carries the trunk time of the tick before
    busy = [h.predict_ms + h.encode_ms + after.trunk_ms for h, after in pairwise(headers)]
    common = summary(latencies, budget_ms=1e3 * period)
    return {
        **common,
        "actions": len(latencies),
        "frames": len(arrivals),
        "missed": missed,
        "missed_fraction": missed / ticks,
        "spacing_ms": percentiles(spacing),
        "busy_ms": percentiles(busy),
        "busy_fraction_p50": round(percentiles(busy)["p50"] / (1e3 * period), 4),
        "longest_gap_ms": round(max(spacing), 3),
        "stages": {
            name: percentiles([float(getattr(h, name)) for h in headers]) for name in STAGES
        },
    }


@contextmanager
def serving(
    world: str, flow_steps: int, flags: Sequence[str] = ()
) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """A server process of this very installation on a free port: (its address, the process)."""
    port = _free_port()
    command = [sys.executable, "-m", "worldsim.cli", "serve", world]
    command += ["--port", str(port), "--k", str(flow_steps), *flags]
    with tempfile.TemporaryFile() as messages:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=messages)
        try:
            _await_listening(process, port, messages)
            yield f"ws://127.0.0.1:{port}", process
        finally:
            _stop(process)


async def _play(url: str, process: "subprocess.Popen[bytes]", seconds: float) -> dict[str, object]:
    from worldsim.clients.async_client import AsyncClient

    async with await AsyncClient.connect(url) as client:
        period = 1.0 / client.world.rate
        begun = time.monotonic()
        await client.start(seed=1)
        await client.frame(GRACE)
        first_frame = 1e3 * (time.monotonic() - begun)
        await play_open_loop(client, period, WARMUP_SECONDS)
        before = resident_mb(process.pid)
        due, arrivals = await play_open_loop(client, period, seconds)
        found = summarize(due, arrivals, period=period)
        found["first_frame_ms"] = round(first_frame, 1)
        found["server_rss_mb"] = {"start": before, "end": resident_mb(process.pid)}
        return found


async def play_open_loop(
    client: "AsyncClient", period: float, seconds: float
) -> tuple[list[Due], list[Arrival]]:
    """Send on schedule and receive at the same time, for `seconds`."""
    end = time.monotonic() + seconds
    sender = asyncio.create_task(_send(client, period, seconds))
    arrivals: list[Arrival] = []
    try:
        while time.monotonic() < end:
            frame = await client.frame(GRACE)
            arrivals.append(Arrival(time.monotonic(), frame.header))
        return await sender, arrivals
    except TimeoutError as error:
        raise MachineError(f"the server sent no frame for {GRACE:g} s") from error
    finally:
        sender.cancel()
        await asyncio.gather(sender, return_exceptions=True)


async def _send(client: "AsyncClient", period: float, seconds: float) -> list[Due]:
    """One action per period, at a random moment in it; when it was due counts."""
    rng = np.random.default_rng(0)
    start = time.monotonic()
    due: list[Due] = []
    action = 0
    for tick in range(max(1, math.floor(seconds / period))):
        if tick % HOLD == 0:
            action = int(rng.integers(len(client.world.actions)))
        at = start + (tick + float(rng.random())) * period
        await asyncio.sleep(max(0.0, at - time.monotonic()))
        due.append(Due(await client.send_action(action), at))
    return due


def _latencies(due: Sequence[Due], arrivals: Sequence[Arrival]) -> Iterator[float]:
    """Milliseconds from each action to the first frame that reflects it or a newer one."""
    frames = iter(arrivals)
    frame = next(frames, None)
    for action in due:
        while frame is not None and frame.header.action_seq < action.seq:
            frame = next(frames, None)
        if frame is None:
            return
        yield 1e3 * (frame.at - action.at)


def backend_of(url: str) -> str:
    """What computes the ticks of the server at `url` (ws://...), by its own word: the one that was
    asked for, or torch, where that could not be had or has failed since."""
    with urllib.request.urlopen(url.replace("ws:", "http:", 1) + "/healthz", timeout=GRACE) as page:
        return str(json.load(page)["backend"])


def resident_mb(pid: int) -> float | None:
    """Memory of a process that is in RAM, MB; None where the system does not say."""
    status = Path(f"/proc/{pid}/status")
    if not status.is_file():
        return None
    for line in status.read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("VmRSS:"):
            return round(int(line.split()[1]) / 1024, 1)
    return None


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _await_listening(process: "subprocess.Popen[bytes]", port: int, messages: IO[bytes]) -> None:
    """Return as soon as the port answers; MachineError with the server's own words if it ends."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            messages.seek(0)
            said = messages.read().decode("utf-8", "replace").strip().splitlines()
            raise MachineError(f"the server did not start: {said[-1] if said else 'no message'}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
            return
        except OSError:
            time.sleep(0.1)
    raise MachineError(f"the server did not listen within {START_SECONDS:g} s")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(timeout=5.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
