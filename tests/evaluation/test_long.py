"""Free play: survival, constancy, motion and Frechet distance on the toy game."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from worldsim.evaluation import block_long, frechet
from worldsim.evaluation.block_long import KEYS, grade
from worldsim.evaluation.footage import Library
from worldsim.evaluation.plan import Plan

if TYPE_CHECKING:
    from worldsim.world import World

MakeWorld = Callable[[str], "World"]


def quiet(text: str) -> None:
    """No progress lines in tests."""


def test_the_frechet_distance_of_gaussians_is_the_formula() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(0, 1, (4000, 3))
    b = rng.normal(0, 2, (4000, 3)) + np.array([3.0, 0.0, 0.0])

    assert frechet.frechet(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet.frechet(a, b) == pytest.approx(9 + 3 * (2 - 1) ** 2, rel=0.05)
    assert frechet.frechet(a, b) == pytest.approx(frechet.frechet(b, a))
    graded = frechet.graded(a, b)
    assert graded["lo"] <= graded["value"] <= graded["hi"] and graded["n"] == 4000  # type: ignore[operator]


def test_a_still_has_features_of_its_own() -> None:
    moving = np.random.default_rng(0).normal(size=(64, 5, 3)).astype(np.float32)

    features = frechet.describe(moving)
    still = frechet.describe(np.repeat(moving[::16], 16, axis=0))

    assert features.shape == still.shape == (4, 6)
    assert (still[:, 3:] == 0).all() and (features[:, 3:] > 0.5).all()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_long, "FRAMES", 264)
    monkeypatch.setattr(block_long, "LAST", 192)


def test_free_play_of_real_noisy_and_frozen_worlds(
    short: None, library: Library, plan: Plan, make_world: MakeWorld, tmp_path: Path
) -> None:
    def report(kind: str) -> Any:
        found = grade(make_world(kind), library, plan, quiet, tmp_path)
        assert set(KEYS) <= set(found)
        numbers = {k: v for k, v in found.items() if isinstance(v, dict) and "value" in v}
        return {k: v["value"] for k, v in numbers.items()} | {"frozen": found["frozen"]}

    real, loud, still = report("real"), report("loud"), report("frozen")

    assert real["survival_7200"] == 1 and loud["survival_7200"] == still["survival_7200"] == 0
    assert real["motion_ratio"] == pytest.approx(1, abs=0.4) and still["motion_ratio"] == 0
    assert still["tc"] == pytest.approx(1) and real["tc"] < 1
    assert real["tc"] / real["tc_real"] == pytest.approx(1, abs=0.05)
    assert real["frechet_normalized"] < still["frechet_normalized"]
    assert real["frechet_7200"] < real["frechet_frozen"]
    assert real["frozen"]["motion_ratio"]["value"] == 0
    assert real["frozen"]["survival_7200"]["value"] == 0
    assert 0.2 < real["ms_ratio"] < 5
    assert real["reanchors_per_1000"] is None
    assert (tmp_path / "survival.png").is_file()


def test_it_counts_how_often_a_world_is_put_back_on_a_keyframe(
    short: None, library: Library, plan: Plan, make_world: MakeWorld, tmp_path: Path
) -> None:
    world: Any = make_world("loud")
    world.reanchors = True
    step = world.step

    def ringing_step(state: Any, action: Any, **how: Any) -> Any:
        state, out = step(state, action, **how)
        out.alarm = np.ones(len(out.frame), dtype=np.bool_)
        return state, out

    world.step = ringing_step

    report: Any = grade(world, library, plan, quiet, tmp_path)

    assert report["reanchors_per_1000"]["value"] == pytest.approx(1000 / 264)
    assert report["reanchored"]["survival_7200"]["value"] == 0
