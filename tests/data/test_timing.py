"""Bringing video to one rate: by time, and without touching what has the rate already."""

import numpy as np
import pytest

from worldsim.data.timing import TIE, at_rate


def picked(times: np.ndarray, fps: float) -> list[int]:
    return [index for index, _ in at_rate(((float(t), None) for t in times), fps)]


@pytest.mark.parametrize("fps", [12.0, 29.97, 35.0, 60.0])
def test_its_own_rate_in_rounded_milliseconds_changes_nothing(fps: float) -> None:
    times = np.round(np.arange(2000) / fps, 3) + 1.4

    assert picked(times, fps) == list(range(2000))


@pytest.mark.parametrize(("source", "target"), [(60, 30), (30, 60), (25, 35), (50, 29.97)])
def test_every_tick_gets_the_frame_that_is_nearest_in_time(source: float, target: float) -> None:
    times = np.arange(200) / source

    chosen = picked(times, target)

    ticks = np.arange(len(chosen)) / target
    distance = np.abs(times[chosen] - ticks)
    least = np.abs(times[None] - ticks[:, None]).min(axis=1)
    assert (distance <= least + 2 * TIE / target + 1e-9).all()
    assert len(chosen) == pytest.approx(200 * target / source, abs=2)


def test_rounding_does_not_decide_between_two_frames_that_are_equally_near() -> None:
    times = np.round(np.arange(50) / 15, 3)

    chosen = picked(times, 30)

    assert chosen == [k // 2 for k in range(len(chosen))]


def test_a_changing_rate_comes_out_even() -> None:
    times = np.concatenate([np.arange(30) / 30, 1 + np.arange(10) / 10, 2 + np.arange(30) / 30])

    chosen = picked(times, 30)

    assert len(chosen) == pytest.approx(90, abs=1)
    assert np.abs(times[chosen] - np.arange(len(chosen)) / 30).max() < 0.06


def test_a_hole_in_the_time_stamps_is_a_cut_and_not_a_still() -> None:
    times = np.concatenate([np.arange(10) / 10, 5000 + np.arange(10) / 10])

    assert picked(times, 10) == list(range(20))


def test_nothing_stays_nothing() -> None:
    assert picked(np.zeros(0), 30) == []
