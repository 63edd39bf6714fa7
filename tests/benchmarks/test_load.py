"""The figures of a load, from invented arrivals."""

import pytest

from worldsim.benchmarks.load import summarize
from worldsim.benchmarks.loopback import Arrival
from worldsim.errors import MachineError
from worldsim.server.protocol import AI_GENERATED, DEGRADED, Frame

PERIOD = 1 / 24


def arrivals(ticks: list[int], *, flags: int = AI_GENERATED) -> list[Arrival]:
    """Frames of these ticks, each 10 ms after it was due."""
    return [
        Arrival(
            tick * PERIOD + 0.010,
            Frame(
                number=tick,
                width=1,
                height=1,
                flags=flags,
                due_us=round(1e6 * tick * PERIOD),
                predict_ms=7.0,
                trunk_ms=3.0,
            ),
        )
        for tick in ticks
    ]


def test_players_who_get_every_frame_miss_nothing() -> None:
    found = summarize([arrivals(list(range(100)))] * 2, period=PERIOD)

    assert found["fps_min"] == pytest.approx(24.0, abs=0.01)
    assert found["spacing_p99_ticks"] == pytest.approx(1.0, abs=0.001)
    assert (found["missed_fraction"], found["degraded_fraction"]) == (0.0, 0.0)
    assert found["frames"] == 200
    assert found["batch_ms"] == {"p50": 10.0, "p95": 10.0, "p99": 10.0, "max": 10.0}


def test_a_tick_without_a_frame_is_missed_and_the_slowest_player_counts() -> None:
    every_second = arrivals(list(range(0, 101, 2)), flags=AI_GENERATED | DEGRADED)
    found = summarize([arrivals(list(range(101))), every_second], period=PERIOD)

    assert found["fps_min"] == pytest.approx(12.0, abs=0.01)
    assert found["missed_fraction"] == pytest.approx(50 / 202)
    assert found["degraded_fraction"] == pytest.approx(51 / 152)
    assert found["spacing_p99_ticks"] == pytest.approx(2.0, abs=0.001)


def test_a_player_without_frames_is_an_error_and_no_figure() -> None:
    with pytest.raises(MachineError, match="fewer than two frames"):
        summarize([arrivals([0, 1]), arrivals([0])], period=PERIOD)


def test_a_stall_of_half_a_second_shows() -> None:
    stalled = [tick for tick in range(200) if not 100 <= tick < 112]

    found = summarize([arrivals(stalled)], period=PERIOD)

    assert found["missed_fraction"] == pytest.approx(12 / 200)
    assert found["spacing_ms"]["max"] > 500
