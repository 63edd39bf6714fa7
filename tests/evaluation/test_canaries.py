"""Before a measure may be a headline it must rank real > tokenized > noisy > frozen, on a toy game.

The worlds differ only in how their pictures are spoiled, so a wrong order is the measure's fault.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from worldsim.evaluation import study as study_module
from worldsim.evaluation.block_world import (
    KEYS,
    WORLD_KEYS,
    baseline_rows,
    checks,
    grade,
    graded,
    world_row,
)
from worldsim.evaluation.footage import Library
from worldsim.evaluation.plan import Plan
from worldsim.evaluation.study import Study

if TYPE_CHECKING:
    from worldsim.world import World

MakeWorld = Callable[[str], "World"]
Values = dict[str, dict[str, float]]
ORDER = ("real", "tokenized", "noisy", "frozen")


def quiet(text: str) -> None:
    """No progress lines in tests."""


@pytest.fixture(scope="module")
def values(study: Study, request: pytest.FixtureRequest) -> Values:
    """World -> key -> value."""
    make_world: MakeWorld = request.getfixturevalue("make_world")
    found: Values = {}
    for kind in (*ORDER, "deaf", "loud"):
        row = graded(world_row(study, make_world(kind), quiet), WORLD_KEYS)
        found[kind] = {key: float(item["value"] or 0.0) for key, item in row.items()}
    return found


@pytest.mark.parametrize("key", ["g1", "g4", "g16", "delta4"])
def test_fidelity_ranks_the_canaries(values: Values, key: str) -> None:
    scores = [values[kind][key] for kind in ORDER]

    assert scores == sorted(scores, reverse=True)
    assert scores[2] > scores[3]


@pytest.mark.parametrize("key", ["g1", "g16", "dynpsnr_gain1", "delta4", "cfr4", "sign"])
def test_a_frozen_world_earns_nothing(values: Values, key: str) -> None:
    assert values["frozen"][key] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("key", ["cfr4", "sign"])
def test_control_does_not_ask_for_beauty_but_for_obedience(values: Values, key: str) -> None:
    assert values["real"][key] == 1.0
    assert values["tokenized"][key] == 1.0
    assert values["noisy"][key] > 0.8
    assert values["deaf"][key] == pytest.approx(0.0, abs=1e-9)


def test_motion_of_a_perfect_world_is_that_of_the_game(values: Values) -> None:
    assert values["real"]["motion_ratio"] == pytest.approx(1.0)
    assert values["tokenized"]["motion_ratio"] == pytest.approx(1.0, abs=0.1)
    assert values["frozen"]["motion_ratio"] == 0.0


def test_sharpness_tells_blur_from_noise(values: Values) -> None:
    assert values["real"]["sharpness_64"] == pytest.approx(1.0)
    assert values["tokenized"]["sharpness_64"] < 0.95
    assert values["loud"]["sharpness_64"] > 1.05


def test_frozen_and_loud_worlds_do_not_survive(values: Values) -> None:
    assert values["real"]["survival_1024"] >= 0.75
    assert values["loud"]["survival_1024"] == 0.0
    assert values["frozen"]["survival_1024"] == 0.0


def test_tokenizer_measures(values: Values) -> None:
    assert values["real"]["ceiling_psnr"] == 60.0
    assert values["noisy"]["ceiling_psnr"] < values["tokenized"]["ceiling_psnr"] < 60.0
    assert values["tokenized"]["tokenizer_sharpness"] < 1.0


def test_a_world_without_memory_gains_nothing_from_it(values: Values) -> None:
    assert values["real"]["g64_memory"] == 0.0


def test_baselines_lose_where_they_must(study: Study, make_world: MakeWorld) -> None:
    rows = baseline_rows(study, make_world("real"), quiet)
    found = {name: {key: item["value"] for key, item in row.items()} for name, row in rows.items()}

    assert set(rows) == {"copy_last", "mean_frame", "frozen", "nearest_replay"}
    for name in ("copy_last", "frozen", "mean_frame"):
        assert found[name]["cfr4"] == pytest.approx(0.0, abs=1e-9)
        assert found[name]["sign"] == 0.0
        assert found[name]["motion_ratio"] == pytest.approx(0.0, abs=0.02)
        assert found[name]["survival_1024"] == 0.0
    assert found["copy_last"]["g16"] == 0.0
    assert float(found["nearest_replay"]["motion_ratio"] or 0) == pytest.approx(1.0, abs=0.25)
    assert float(found["nearest_replay"]["cfr4"] or 0) < 1.0


def test_a_single_recording_cannot_replay_itself(
    library: Library, plan: Plan, make_world: MakeWorld, toy_game: None
) -> None:
    alone = replace(library, footage=library.footage[:1])
    small = replace(plan, windows=2, motion_windows=1, survivors=1, states=1)

    report = grade(make_world("real"), alone, small, quiet)

    for name in ("mean_frame", "nearest_replay"):
        row = report[name]
        assert isinstance(row, dict)
        assert row["g16"]["value"] is None
        assert "only one" in row["g16"]["why"]


def test_the_measures_are_right_about_the_game_itself(study: Study) -> None:
    found = checks(study)

    assert found["sign_of_real"]["value"] == 1.0
    assert found["survival_of_real"]["value"] == 1.0


@pytest.fixture
def toy_game(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counterfactuals of the study, whoever asks, and rollouts that end early."""
    monkeypatch.setattr(study_module, "SURVIVAL_FRAMES", 48)
    monkeypatch.setattr(study_module, "branch", lambda *ignored: study.branches)


def test_the_report_has_every_key_and_row(
    library: Library, plan: Plan, make_world: MakeWorld, toy_game: None
) -> None:
    small = replace(plan, windows=4, motion_windows=2, survivors=2)

    report = grade(make_world("tokenized"), library, small, quiet, make_world("noisy"))

    assert json.loads(json.dumps(report)) == report
    for key in WORLD_KEYS:
        assert set(report[key]) >= {"value", "lo", "hi", "n"}  # type: ignore[call-overload]
    for row in ("copy_last", "mean_frame", "frozen", "nearest_replay"):
        assert set(report[row]) == set(KEYS)  # type: ignore[call-overload]
    gap = report["minus_twin"]
    assert isinstance(gap, dict)
    assert gap["g16"]["lo"] > 0


def test_without_side_files_what_needs_controls_is_null(
    library: Library, plan: Plan, make_world: MakeWorld, toy_game: None
) -> None:
    plain = replace(
        library, controls=(), footage=tuple(replace(f, controls=None) for f in library.footage)
    )
    small = replace(plan, survivors=2)

    report = grade(make_world("real"), plain, small, quiet)

    for key in ("g1", "g16", "delta4", "cfr4", "sign", "motion_ratio", "sharpness_64"):
        item = report[key]
        assert isinstance(item, dict)
        assert item["value"] is None
        assert "side files" in item["why"]
    for key in ("ceiling_psnr", "survival_1024"):
        item = report[key]
        assert isinstance(item, dict)
        assert item["value"] is not None


def test_a_world_without_a_binding_says_which(study: Study, make_world: MakeWorld) -> None:
    world = make_world("real")
    del world.bindings["attack"]

    row = graded(world_row(study, world, quiet), WORLD_KEYS)

    assert row["g1"]["value"] is None
    assert "'attack'" in str(row["g1"]["why"])
    assert row["ceiling_psnr"]["value"] == 60.0
