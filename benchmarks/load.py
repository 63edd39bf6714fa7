"""Does every player get its frames when there are several? Counted through real sockets.

A server in a process of its own; every client plays open loop, as in loopback.py, and acknowledges
each frame. Ticks that a client should have seen are counted by the server's due times: one without
a frame is missed, whether the server dropped the tick or the frame never left. Run it with
`worldsim bench load`.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from worldsim.benchmarks.loopback import (
    GRACE,
    WARMUP_SECONDS,
    Arrival,
    backend_of,
    play_open_loop,
    resident_mb,
    serving,
)
from worldsim.benchmarks.timing import environment, percentiles
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
        arrivals, watched, rate = asyncio.run(_play(url, clients, viewers, seconds))
        resident, used = resident_mb(process.pid), backend_of(url)
    found = summarize(arrivals, period=1.0 / rate)
    if watched:
        found["viewers_fps_min"] = summarize(watched, period=1.0 / rate)["fps_min"]
    return {
        "clients": clients,
        "viewers": viewers,
        "rate": rate,
        **found,
        "server_rss_mb": resident,
        "world": world,
        "backend": used,
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
    url: str, clients: int, viewers: int, seconds: float
) -> tuple[list[list[Arrival]], list[list[Arrival]], float]:
    """Arrivals of each player, of each viewer, and the rate."""
    players = [await AsyncClient.connect(url) for _ in range(clients)]
    watching = [await AsyncClient.connect(url, watch=players[0].world.game) for _ in range(viewers)]
    period = 1.0 / players[0].world.rate
    for seed, client in enumerate(players):
        await client.start(seed=seed)
        await client.frame(GRACE)

    async def all_of(span: float) -> list[list[Arrival]]:
        playing = [play_open_loop(client, period, span) for client in players]
        looking = [_watch(client, span) for client in watching]
        found = await asyncio.gather(asyncio.gather(*playing), asyncio.gather(*looking))
        return [arrivals for _, arrivals in found[0]] + list(found[1])

    await all_of(WARMUP_SECONDS)
    arrivals = await all_of(seconds)
    await asyncio.gather(*(client.close() for client in (*players, *watching)))
    return arrivals[:clients], arrivals[clients:], 1.0 / period


async def _watch(client: AsyncClient, seconds: float) -> list[Arrival]:
    loop = asyncio.get_running_loop()
    end, arrivals = loop.time() + seconds, []
    while loop.time() < end:
        frame = await client.frame(GRACE)
        arrivals.append(Arrival(loop.time(), replace(frame.header, picture=b"")))
    return arrivals
