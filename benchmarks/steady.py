"""Does a server stay as it was? Its memory, its open files and the spacing of frames over a run.

The first quarter of a run is left out of the slope: there the pasts of the games still fill.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from worldsim.benchmarks.loopback import resident_mb
from worldsim.benchmarks.timing import percentiles

EVERY = 2.0  # seconds between two looks
QUARTERS = 4


@dataclass(frozen=True)
class Vitals:
    """A process at a moment of the client's monotonic clock, s."""

    at: float
    resident_mb: float
    descriptors: int


async def watch_process(pid: int, into: list[Vitals]) -> None:
    """Look at a process again and again, until cancelled; nothing where the system has no /proc."""
    loop, files = asyncio.get_running_loop(), Path(f"/proc/{pid}/fd")
    while (resident := resident_mb(pid)) is not None:
        into.append(Vitals(loop.time(), resident, len(list(files.iterdir()))))
        await asyncio.sleep(EVERY)


def steadiness(
    vitals: Sequence[Vitals], players: Sequence[Sequence[float]], *, period: float
) -> dict[str, object] | None:
    """Slope of the memory, range of the descriptors, spacing p99 by quarter; pure.

    `players`: when the frames of each arrived, on the clock of the looks. None for a run of fewer
    than eight looks.
    """
    late = vitals[len(vitals) // QUARTERS :]
    if len(vitals) < 2 * QUARTERS:
        return None
    begin, end = vitals[0].at, vitals[-1].at
    times = np.array([seen.at for seen in late])
    slope = float(np.polyfit(times - times[0], [seen.resident_mb for seen in late], 1)[0])
    spacings: list[list[float]] = [[] for _ in range(QUARTERS)]
    for before, after in (pair for arrivals in players for pair in pairwise(arrivals)):
        quarter = int(QUARTERS * (after - begin) / (end - begin))
        if 0 <= quarter < QUARTERS:
            spacings[quarter].append((after - before) / period)
    return {
        "seconds": round(end - begin, 1),
        "memory_mb": [late[0].resident_mb, late[-1].resident_mb],
        "memory_mb_per_10_min": round(600 * slope, 3),
        "descriptors": [min(s.descriptors for s in late), max(s.descriptors for s in late)],
        "spacing_p99_ticks_by_quarter": [percentiles(part)["p99"] for part in spacings if part],
    }
