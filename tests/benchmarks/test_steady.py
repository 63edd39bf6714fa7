"""Whether a server stays as it was: from invented looks, and at this very process."""

import asyncio
import os
from pathlib import Path

import pytest

from worldsim.benchmarks.steady import Vitals, steadiness, watch_process

PERIOD = 0.1


def test_a_leak_has_a_slope_and_what_fills_at_the_start_has_none() -> None:
    filling = [Vitals(float(t), 100.0 + min(t, 20), 9) for t in range(100)]
    leaking = [Vitals(float(t), 100.0 + 0.1 * t, 9 + t // 50) for t in range(100)]

    calm, bad = (steadiness(v, [], period=PERIOD) for v in (filling, leaking))

    assert calm is not None and bad is not None
    assert calm["memory_mb_per_10_min"] == pytest.approx(0.0, abs=1e-6)
    assert calm["descriptors"] == [9, 9]
    assert bad["memory_mb_per_10_min"] == pytest.approx(60.0)
    assert bad["descriptors"] == [9, 10]


def test_spacing_is_told_by_quarter() -> None:
    looks = [Vitals(float(t), 100.0, 9) for t in range(41)]
    even = [t * PERIOD for t in range(300)]
    late = [30 + 2 * t * PERIOD for t in range(50)]

    found = steadiness(looks, [even + late], period=PERIOD)

    assert found is not None
    assert found["spacing_p99_ticks_by_quarter"] == pytest.approx([1.0, 1.0, 1.0, 2.0])


def test_a_short_run_says_nothing() -> None:
    assert steadiness([Vitals(float(t), 1.0, 1) for t in range(7)], [], period=PERIOD) is None


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_descriptors_are_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("worldsim.benchmarks.steady.EVERY", 0.05)
    seen: list[Vitals] = []

    async def run() -> None:
        looking = asyncio.create_task(watch_process(os.getpid(), seen))
        await asyncio.sleep(0.12)
        with (tmp_path / "file").open("w"):
            await asyncio.sleep(0.12)
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)

    asyncio.run(run())

    assert len(seen) >= 3
    assert seen[-1].descriptors == seen[0].descriptors + 1
