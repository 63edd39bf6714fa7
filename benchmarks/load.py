"""Does every player get its frames when there are several? Counted through real sockets.

A server in a process of its own; every client plays open loop, as in loopback.py, and acknowledges
each frame. Ticks that a client should have seen are counted by the server's due times: one without
a frame is missed, whether the server dropped the tick or the frame never left. Viewers sit in a
process of their own (viewers.py), so that reading their frames does not delay the players'. Run it
with `worldsim bench load`, for an hour to see whether memory grows (steady.py).
"""

import asyncio
from collections.abc import Sequence
from itertools import pairwise

from worldsim.benchmarks.loopback import (
    GRACE,
    START_SECONDS,
    WARMUP_SECONDS,
    Arrival,
    backend_of,
    play_open_loop,
    resident_mb,
    serving,
)
from worldsim.benchmarks.steady import Vitals, steadiness, watch_process
from worldsim.benchmarks.timing import environment, percentiles
from worldsim.benchmarks.viewers import watching
from worldsim.clients.async_client import AsyncClient
from worldsim.errors import MachineError
from worldsim.server.protocol import DEGRADED


def measure_load(
    world: str,
    *,
    clients: int,
    viewers: int,
    seconds: float,
    rate: float | None,
    flow_steps: int,
    backend: str,
) -> dict[str, object]:
    """Start a server, let `clients` play and `viewers` watch the first, stop it; JSON-ready.

    Raises MachineError when the server does not come up or stops answering.
    """
    flags = ["--sessions", str(clients), "--backend", backend]
    flags += [] if rate is None else ["--rate", str(rate)]
    with serving(world, flow_steps, flags) as (url, process):
        found = asyncio.run(_play(url, process.pid, clients, viewers, seconds))
        computing = backend_of(url)
        resident = resident_mb(process.pid)
    return {
        "clients": clients,
        "viewers": viewers,
        **found,
        "server_rss_mb": resident,
        "world": world,
        "backend": computing,
        "k": flow_steps,
        "env": environment(),
    }


def summarize(players: Sequence[Sequence[Arrival]], *, period: float) -> dict[str, object]:
    """The figures of a run from the arrivals of each player; pure. MachineError for too few."""
    if any(len(arrivals) < 2 for arrivals in players):
        raise MachineError("too short a run: a player got fewer than two frames")
    spacing = [b.at - a.at for arrivals in players for a, b in pairwise(arrivals)]
    headers = [arrival.header for arrivals in players for arrival in arrivals]
    ticks = sum(_ticks(arrivals, period) for arrivals in players)
    batches = [header.predict_ms + header.trunk_ms for header in headers]
    degraded = sum(_is_degraded(header.flags) for header in headers)
    tails = percentiles([1e3 * s for s in spacing])
    return {
        "fps_min": round(min(_rate(arrivals) for arrivals in players), 3),
        "spacing_p99_ticks": round(tails["p99"] / (1e3 * period), 4),
        "missed_fraction": (ticks - len(headers)) / ticks,
        "degraded_fraction": degraded / len(headers),
        "batch_ms": percentiles(batches),
        "spacing_ms": tails,
        "frames": len(headers),
    }


def _ticks(arrivals: Sequence[Arrival], period: float) -> int:
    """Ticks that were due between the first and the last frame, both counted."""
    span = (arrivals[-1].header.due_us - arrivals[0].header.due_us) / 1e6
    return max(round(span / period) + 1, len(arrivals))


def _rate(arrivals: Sequence[Arrival]) -> float:
    return (len(arrivals) - 1) / (arrivals[-1].at - arrivals[0].at)


def _is_degraded(flags: int) -> bool:
    return bool(flags & DEGRADED)


async def _play(
    url: str, pid: int, clients: int, viewers: int, seconds: float
) -> dict[str, object]:
    players = [await AsyncClient.connect(url, timeout=START_SECONDS) for _ in range(clients)]
    rate = players[0].world.rate
    period = 1.0 / rate

    async def begin(client: AsyncClient, seed: int) -> None:
        await client.start(seed=seed)
        await client.frame(GRACE)

    async def all_of(span: float) -> list[list[Arrival]]:
        playing = [play_open_loop(client, period, span) for client in players]
        return [arrivals for _, arrivals in await asyncio.gather(*playing)]

    vitals: list[Vitals] = []
    async with watching(url, players[0].world.game, viewers) as seen:
        await asyncio.gather(*(begin(client, seed) for seed, client in enumerate(players)))
        await all_of(WARMUP_SECONDS)
        looking = asyncio.create_task(watch_process(pid, vitals))
        arrivals = await all_of(seconds)
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
    await asyncio.gather(*(client.close() for client in players))
    found = {"rate": rate, **summarize(arrivals, period=period)}
    if viewers:
        found["viewers_fps_min"] = min(seen)
    times = [[arrival.at for arrival in player] for player in arrivals]
    steady = steadiness(vitals, times, period=period)
    return found if steady is None else {**found, "steady": steady}
