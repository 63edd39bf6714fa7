"""Benchmarks show tails and count what came late. They are tested, they do not test speed."""

import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from worldsim.benchmarks.latency import measure_latency
from worldsim.benchmarks.loopback import Arrival, Due, summarize
from worldsim.benchmarks.timing import percentiles, summary, table
from worldsim.errors import MachineError
from worldsim.server.protocol import Frame

if TYPE_CHECKING:
    from worldsim.world import World

KEYS = ("p50_ms", "p95_ms", "p99_ms", "max_ms", "missed", "missed_fraction", "frames", "budget_ms")
PERIOD = 1 / 24


def test_percentiles_are_exact() -> None:
    found = percentiles([float(i) for i in range(101)])

    assert found == {"p50": 50.0, "p95": 95.0, "p99": 99.0, "max": 100.0}
    assert percentiles([7.0])["p99"] == 7.0


def test_late_frames_are_counted() -> None:
    found = summary([10.0, 20.0, 30.0, 50.0], budget_ms=28.6)

    assert found["missed"] == 2
    assert found["missed_fraction"] == 0.5


def run_with_stall(seconds: float) -> dict[str, Any]:
    """20 s at 24 Hz in which the server stands still once, dropping the ticks of that time.

    Every action is due in the middle of a tick; a frame takes 10 ms from its tick.
    """
    stall = range(240, 240 + round(seconds / PERIOD))
    due = [Due(k + 1, (k + 0.5) * PERIOD) for k in range(480)]
    arrivals = []
    for tick in range(481):
        if tick in stall:
            continue
        at = tick * PERIOD + 0.010
        frame = Frame(
            number=tick,
            action_seq=sum(action.at <= tick * PERIOD for action in due),
            width=8,
            height=8,
            due_us=round(1e6 * tick * PERIOD),
            predict_ms=6.0,
            encode_ms=1.0,
            trunk_ms=5.0,
        )
        arrivals.append(Arrival(at, frame))
    return summarize(due, arrivals, period=PERIOD)


def test_a_stall_shows_in_every_action_that_it_delays() -> None:
    found = run_with_stall(0.5)
    calm = run_with_stall(0.0)

    assert calm["missed"] == 0
    assert calm["p99_ms"] == pytest.approx(1e3 * 0.5 * PERIOD + 10, abs=0.01)
    assert found["missed"] == 12
    assert found["p99_ms"] > 250
    assert found["max_ms"] == pytest.approx(1e3 * 12.5 * PERIOD + 10, abs=1.0)
    assert found["longest_gap_ms"] == pytest.approx(1e3 * 13 * PERIOD, abs=1.0)


def test_the_socket_report_has_its_keys() -> None:
    found = run_with_stall(0.0)

    assert set(found) >= {*KEYS, "busy_ms", "spacing_ms", "stages"}
    assert found["busy_ms"]["p50"] == 12.0
    assert found["spacing_ms"]["p50"] == pytest.approx(1e3 * PERIOD, abs=0.01)


def test_a_run_without_answers_is_refused() -> None:
    with pytest.raises(MachineError, match="too short"):
        summarize([], [], period=PERIOD)


class InstantWorld:
    """The halves of a tick, doing nothing."""

    name, fps, num_actions, flow_steps = "instant", 35.0, 8, 2
    backend = "torch"

    def reset(self, seed: int = 0) -> int:
        return seed

    def predict(self, state: int, action: int) -> Any:
        frame = np.zeros((1, 96, 128, 3), dtype=np.uint8)
        timing = {"head_ms": 0.5, "decode_ms": 0.25, "trunk_ms": 0.125}
        return SimpleNamespace(output=SimpleNamespace(frame=frame, timing=timing))

    def advance(self, prediction: Any) -> int:
        return 0


def test_the_latency_report_has_its_keys_and_stages() -> None:
    world = cast("World", InstantWorld())

    found = measure_latency(world, frames=50, flow_steps=1)

    assert set(found) >= {*KEYS, "busy_ms", "stages", "env"}
    assert found["frames"] == 50
    assert found["k"] == 1
    stages = cast(dict[str, dict[str, float]], found["stages"])
    assert set(stages) == {"head_ms", "decode_ms", "predict_ms", "encode_ms", "trunk_ms"}
    assert stages["head_ms"]["p50"] == 0.5
    assert cast(float, found["p50_ms"]) <= cast(dict[str, float], found["busy_ms"])["p50"]


def test_no_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="frames must be >= 1"):
        measure_latency(cast("World", InstantWorld()), frames=0)


def test_the_table_names_its_rows() -> None:
    text = table("socket", {"busy": percentiles([1.0, 2.0])})

    assert "busy" in text
    assert "p99" in text


def test_a_stalled_frame_shows_in_the_latency_report() -> None:
    class Stalling(InstantWorld):
        ticks = 0

        def predict(self, state: int, action: int) -> Any:
            self.ticks += 1
            if self.ticks == 60:  # after the warm-up
                time.sleep(0.5)
            return super().predict(state, action)

    found = cast(dict[str, Any], measure_latency(cast("World", Stalling()), frames=50))

    assert found["max_ms"] > 500
    assert found["busy_ms"]["max"] > 500
    assert found["missed"] >= 1
