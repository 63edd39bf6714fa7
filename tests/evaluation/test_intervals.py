"""Intervals cover what they should, and differences are paired."""

from typing import cast

import numpy as np
import pytest

from worldsim.evaluation.intervals import Measure, measure, missing, ratio


def test_units_count_alike_however_many_windows_they_have() -> None:
    found = measure([0.0, 0.0, 0.0, 1.0], [0, 0, 0, 1]).graded()

    assert found["value"] == 0.5
    assert found["n"] == 2


def test_the_interval_is_that_of_the_mean() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(3.0, 1.0, 400)

    found = measure(values, list(range(400))).graded()

    assert found["value"] == pytest.approx(values.mean())
    low, high = cast(float, found["lo"]), cast(float, found["hi"])
    assert high - low == pytest.approx(4 * 1.0 / 20, rel=0.15)
    assert low < 3.0 < high


def test_more_windows_of_one_unit_do_not_narrow_the_interval() -> None:
    few = measure([0.0, 1.0], [0, 1]).graded()
    many = measure([0.0] * 50 + [1.0] * 50, [0] * 50 + [1] * 50).graded()

    assert (few["lo"], few["hi"]) == (many["lo"], many["hi"])


def test_a_ratio_is_one_of_sums() -> None:
    found = ratio([1.0, 2.0], [2.0, 0.0], [0, 1]).graded()

    assert found["value"] == 1.5


def test_a_ratio_over_nothing_is_missing() -> None:
    assert ratio([1.0, 2.0], [0.0, 0.0], [0, 1]).graded()["value"] is None


def test_differences_are_paired() -> None:
    rng = np.random.default_rng(1)
    hard = rng.normal(0.0, 10.0, 50)
    units = list(range(50))

    gap = measure(hard + 1, units).minus(measure(hard, units))

    assert gap["value"] == pytest.approx(1.0)
    assert gap["lo"] == pytest.approx(1.0)


def test_nan_windows_are_left_out() -> None:
    found = measure([1.0, float("nan"), 3.0], [0, 1, 2]).graded()

    assert found["value"] == 2.0
    assert found["n"] == 2


def test_one_unit_has_a_value_but_no_interval() -> None:
    found = measure([1.0, 2.0], [0, 0]).graded()

    assert found["value"] == 1.5
    assert found["lo"] is None
    assert "two units" in str(found["why"])


def test_nothing_measured_says_why() -> None:
    empty = Measure(above=np.zeros(0), unit=np.zeros(0, dtype=np.int64))

    assert empty.graded() == missing("no window could be measured")
