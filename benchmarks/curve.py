"""How many players does a machine hold, and what do viewers cost? Loads (load.py) side by side.

`measure_curve` doubles the players until they no longer hold, then looks for the largest number in
between. Last, one player alone and with 50 viewers, twice in turns. Run it with
`worldsim bench curve`.
"""

from collections.abc import Callable
from typing import Any

from worldsim.benchmarks.load import measure_load
from worldsim.benchmarks.timing import environment

DOUBLINGS = (1, 2, 4, 8)  # always measured; beyond, while it holds
MOST = 64
VIEWERS = 50
KEYS = ("fps_min", "spacing_p99_ticks", "missed_fraction", "degraded_fraction", "batch_ms")
Report = dict[str, Any]
Load = Callable[[int, int], Report]  # (players, viewers) -> what measure_load says


def holds(found: Report) -> bool:
    """Whether every player got its frames: spacing p99 of at most 1.5 ticks, fewer than 1 % of the
    ticks missed, at most 1 % of the frames with fewer flow steps."""
    spacing, missed, degraded = (float(found[key]) for key in KEYS[1:4])
    return spacing <= 1.5 and missed < 0.01 and degraded <= 0.01


def measure_curve(
    world: str,
    *,
    seconds: float,
    rate: float | None,
    flow_steps: int,
    backend: str,
    say: Callable[[str], None],
) -> dict[str, object]:
    """Every load for `seconds`; JSON-ready. MachineError if a server does not come up."""

    def load(clients: int, viewers: int) -> Report:
        found: Report = measure_load(
            world,
            clients=clients,
            viewers=viewers,
            seconds=seconds,
            rate=rate,
            flow_steps=flow_steps,
            backend=backend,
        )
        verdict = "holds" if holds(found) else "does not hold"
        say(f"{clients} players, {viewers} viewers: {verdict}")
        return found

    points, most = climb(load)
    first = next(iter(points.values()))
    return {
        "curve": [{"clients": n, "holds": holds(points[n])} | _row(points[n]) for n in points],
        "holds": most,
        "viewers": beside_viewers(load),
        "seconds": seconds,
        "rate": first["rate"],
        "world": world,
        "backend": first["backend"],
        "k": flow_steps,
        "env": environment(),
    }


def climb(load: Load) -> tuple[dict[int, Report], int]:
    """What each number of players got, in order, and the largest number that holds (0: none)."""
    points = {clients: load(clients, 0) for clients in DOUBLINGS}
    while holds(points[max(points)]) and max(points) < MOST:
        points[2 * max(points)] = load(2 * max(points), 0)
    most = max((n for n, found in points.items() if holds(found)), default=0)
    beyond = min((n for n in points if n > most), default=most + 1)
    while beyond - most > 1:
        middle = (most + beyond) // 2
        points[middle] = load(middle, 0)
        most, beyond = (middle, beyond) if holds(points[middle]) else (most, middle)
    return dict(sorted(points.items())), most


def beside_viewers(load: Load) -> Report:
    """The figures of one player alone and before viewers, twice in turns; by how much they differ.

    `change` is the mean of the second over the mean of the first, less one.
    """
    pairs = [(load(1, 0), load(1, VIEWERS)) for _ in range(2)]
    alone, watched = ([pair[i] for pair in pairs] for i in (0, 1))

    def change(of: Callable[[Report], float]) -> float:
        return round(sum(map(of, watched)) / sum(map(of, alone)) - 1.0, 4)

    return {
        "count": VIEWERS,
        "alone": [_row(found) for found in alone],
        "watched": [_row(found) for found in watched],
        "viewers_fps_min": min(found["viewers_fps_min"] for found in watched),
        "change": {
            "fps_min": change(lambda found: float(found["fps_min"])),
            "spacing_p99_ticks": change(lambda found: float(found["spacing_p99_ticks"])),
            "batch_p50": change(lambda found: float(found["batch_ms"]["p50"])),
        },
    }


def _row(found: Report) -> Report:
    return {key: found[key] for key in KEYS}
