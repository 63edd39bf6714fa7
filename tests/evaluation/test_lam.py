"""Block `lam`: figures of codes that are perfect, worthless, or somebody else's."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from worldsim.evaluation import block_lam, tables
from worldsim.evaluation.footage import Library
from worldsim.evaluation.plan import Plan

if TYPE_CHECKING:
    from worldsim.world import World

    Make = Callable[[str], "World"]


def graded(world: "World", library: Library, plan: Plan, twin: Any = None) -> dict[str, Any]:
    return dict(block_lam.grade(world, library, plan, lambda text: None, twin))


@pytest.fixture(scope="module")
def short(library: Library) -> Library:
    return replace(library, footage=library.footage[:2])


def test_perfect_codes_get_perfect_figures(short: Library, plan: Plan, make_world: "Make") -> None:
    report = graded(make_world("coded"), short, plan, twin=make_world("real"))

    assert list(report) == list(block_lam.KEYS)
    # a shot that is held lights nothing new, so it counts as noop, but has the code of a shot
    assert report["nmi"]["value"] > 0.9 and report["purity"]["value"] > 0.9
    assert 6 < report["perplexity"]["value"] <= 8
    assert report["map_200"]["value"] > 0.8 > 0.2 > report["majority"]["value"]
    assert report["map_1000"]["value"] is None and "838" in report["map_1000"]["why"]
    assert report["delta4"]["lo"] > max(report["delta4_random"]["hi"], 3.0)
    assert report["delta4_twin"]["value"] > 3.0
    assert report["cycle"]["value"] == pytest.approx(1.0)
    assert report["nmi"]["lo"] <= report["nmi"]["value"] <= report["nmi"]["hi"]


def test_one_code_for_everything_is_worth_nothing(
    short: Library, plan: Plan, make_world: "Make"
) -> None:
    report = graded(make_world("blind"), short, plan)

    assert report["nmi"]["value"] == pytest.approx(0.0)
    assert report["perplexity"]["value"] == pytest.approx(1.0)
    assert report["map_200"]["value"] == pytest.approx(report["majority"]["value"])
    assert report["cycle"]["value"] == pytest.approx(1 / 8)
    assert report["delta4_twin"]["value"] is None and "--twin" in report["delta4_twin"]["why"]


def test_a_world_that_does_not_listen_has_no_delta(
    short: Library, plan: Plan, make_world: "Make"
) -> None:
    report = graded(make_world("coded deaf"), short, plan)

    assert report["delta4"]["value"] == report["delta4_random"]["value"] == 0


def test_a_labelled_world_says_why_there_is_nothing(
    short: Library, plan: Plan, make_world: "Make"
) -> None:
    report = graded(make_world("real"), short, plan)

    assert all(report[key]["value"] is None for key in block_lam.KEYS)
    assert "labelled" in report["nmi"]["why"]


def test_plain_videos_have_codes_but_no_controls(
    short: Library, plan: Plan, make_world: "Make"
) -> None:
    plain = replace(
        short, footage=tuple(replace(f, controls=None) for f in short.footage), controls=()
    )

    report = graded(make_world("coded"), plain, plan)

    assert report["nmi"]["value"] is None and "side files" in report["nmi"]["why"]
    assert report["delta4"]["value"] > 3.0


def test_statistics_of_a_known_table() -> None:
    table = np.array([[30.0, 10.0, 0.0], [0.0, 10.0, 50.0]])

    assert tables.purity(table) == pytest.approx(0.9)
    assert tables.dictionary(table).tolist() == [0, 0, 1]
    assert tables.balanced(table, np.array([0, 0, 1])) == pytest.approx((1 + 50 / 60) / 2)
    assert tables.perplexity(np.array([[1.0, 1.0], [1.0, 1.0]])) == pytest.approx(2.0)
    assert tables.nmi(np.eye(4)) == pytest.approx(1.0)
    assert tables.nmi(np.ones((4, 4))) == pytest.approx(0.0)


def test_a_code_without_labels_gets_the_most_frequent_control() -> None:
    assert tables.dictionary(np.array([[1.0, 0.0], [3.0, 0.0]])).tolist() == [1, 1]
