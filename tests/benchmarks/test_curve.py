"""How many players hold, and what viewers cost: from invented loads."""

from typing import Any

import pytest

from worldsim.benchmarks.curve import VIEWERS, beside_viewers, climb, holds
from worldsim.benchmarks.shown import SHOWN


def load_of(players: int, *, most: int, slower: float = 1.0) -> dict[str, Any]:
    """What a machine that holds `most` players says of `players`."""
    batch = 5.0 * players * slower
    return {
        "fps_min": 24.0 / slower,
        "spacing_p99_ticks": 1.1 * slower if players <= most else 3.0,
        "missed_fraction": 0.0,
        "degraded_fraction": 0.0,
        "batch_ms": {"p50": batch, "p95": batch, "p99": batch, "max": batch},
        "viewers_fps_min": 24.0,
    }


@pytest.mark.parametrize(
    ("most", "asked"),
    [
        (0, {1, 2, 4, 8}),
        (1, {1, 2, 4, 8}),
        (3, {1, 2, 3, 4, 8}),
        (6, {1, 2, 4, 6, 7, 8}),
        (8, {1, 2, 4, 8, 16, 12, 10, 9}),
    ],
)
def test_the_largest_number_that_holds_is_found(most: int, asked: set[int]) -> None:
    points, found = climb(lambda players, viewers: load_of(players, most=most))

    assert found == most
    assert list(points) == sorted(asked)


@pytest.mark.parametrize(
    ("key", "value", "is_held"),
    [
        ("spacing_p99_ticks", 1.5, True),
        ("spacing_p99_ticks", 1.51, False),
        ("missed_fraction", 0.0099, True),
        ("missed_fraction", 0.01, False),
        ("degraded_fraction", 0.01, True),
        ("degraded_fraction", 0.011, False),
    ],
)
def test_what_holding_means(key: str, value: float, is_held: bool) -> None:
    assert holds(load_of(1, most=1) | {key: value}) is is_held


def test_viewers_are_compared_with_the_same_player_alone() -> None:
    asked = []

    def load(players: int, viewers: int) -> dict[str, Any]:
        asked.append((players, viewers))
        return load_of(players, most=1, slower=1.25 if viewers else 1.0)

    found = beside_viewers(load)

    assert asked == [(1, 0), (1, VIEWERS)] * 2
    assert found["change"] == {"fps_min": -0.2, "spacing_p99_ticks": 0.25, "batch_p50": 0.25}


def test_a_curve_is_shown() -> None:
    points, most = climb(lambda players, viewers: load_of(players, most=3))
    report = {
        "command": "bench curve",
        "world": "fake",
        "backend": "torch",
        "rate": 24.0,
        "curve": [{"clients": n, "holds": holds(found)} | found for n, found in points.items()],
        "holds": most,
        "viewers": beside_viewers(lambda players, viewers: load_of(players, most=3)),
    }

    text = SHOWN["curve"](report).text

    assert "3 players hold at 24 Hz, torch" in text
    assert text.count("does not hold") == 2
