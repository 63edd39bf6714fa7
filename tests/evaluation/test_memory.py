"""Leave and return: the measures rank worlds whose memory is known."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from worldsim.evaluation import block_memory, detector
from worldsim.evaluation.block_memory import DISTANCES, KEYS, REAPPEAR, grade, grade_trips
from worldsim.evaluation.footage import Footage, Library, Window
from worldsim.evaluation.plan import Plan
from worldsim.evaluation.predictors import WorldPredictor
from worldsim.evaluation.trips import Trip

if TYPE_CHECKING:
    from pathlib import Path

    from worldsim.world import World

MakeWorld = Callable[[str], "World"]
TURN_LEFT, TURN_RIGHT = 3, 4


def quiet(text: str) -> None:
    """No progress lines in tests."""


def toy_trip(start: Window, away: int, number: int, toy: Any) -> Trip:
    """A trip in the toy game: the view slides away over the wall, and back."""
    turns = away // 2
    place = toy.find(start.seed_frame)
    out = [place]
    for _ in range(turns):
        out.append(toy.move(out[-1], TURN_LEFT))
    back = out[-2::-1]
    shown = [toy.look(p, False) for p in out]
    frames = np.concatenate([start.frames, shown[1:]])
    none = np.zeros(len(frames), dtype=np.bool_)
    footage = Footage(
        path=start.footage.path,
        index=1000 + number,
        frames=frames,
        controls=np.full(len(frames), TURN_LEFT),
        resets=none,
        deaths=none,
        header={},
    )
    seen = np.stack([toy.look(p, False) for p in back])
    return Trip(
        window=Window(footage, len(frames) - 1, len(frames)),
        controls=np.full(turns, TURN_RIGHT),
        back=seen,
        past=seen,
        unit=number,
        before={},
        after={},
    )


@pytest.fixture(scope="module")
def trips(library: Library, toy: Any) -> dict[int, list[Trip]]:
    starts = library.windows(context=16, horizon=8, count=4, seed=0)
    return {
        d: [toy_trip(start, d, i, toy) for i, start in enumerate(starts)]
        for d in (*DISTANCES, REAPPEAR)
    }


def test_a_world_that_needs_its_memory_gains_by_it_and_others_do_not(
    trips: dict[int, list[Trip]],
    library: Library,
    make_world: MakeWorld,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: "Path",
) -> None:
    monkeypatch.setattr(block_memory, "train_detector", lambda library: None)

    keeping = grade_trips(make_world("keeping"), library, trips, 4, quiet, tmp_path)
    frozen = grade_trips(make_world("frozen"), library, trips, 4, quiet)

    for key in ("mg_64", "mg_128", "mg_256"):
        assert keeping[key]["value"] > 10 > keeping[key]["lo"] - 100  # type: ignore[index]
        assert frozen[key]["value"] == 0  # type: ignore[index]
    rows: Any = keeping["rows"]
    assert set(rows) == {"world", "no_state", "no_trunk", "frozen", "oracle"}
    assert rows["world"]["psnr_64"]["value"] == rows["oracle"]["psnr_64"]["value"] == 60.0
    assert rows["frozen"]["psnr_64"]["value"] < 20
    assert keeping["mg_64_keyframes"]["value"] is None  # type: ignore[index]
    assert "--stages dynamics" in keeping["mg_64_keyframes"]["why"]  # type: ignore[index]
    assert (tmp_path / "leave-and-return.png").stat().st_size > 0


def test_slots_are_forgotten_in_every_tick_or_never(
    trips: dict[int, list[Trip]],
    library: Library,
    make_world: MakeWorld,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world, asked = make_world("keeping"), []
    state = type(world.reset(trips[64][0].window.frames[None], seed=[0]))

    def forget(self: Any) -> Any:
        asked.append(1)
        return replace(self, is_blank=True)

    monkeypatch.setattr(state, "without_slots", forget)

    def last(**how: Any) -> Any:
        predictor = WorldPredictor(world, library.controls, **how)
        return list(predictor.rollout([trips[64][0].window], trips[64][0].controls[None]))[-1][0]

    clear, noisy = last(), last(forget_slots=True)
    assert len(asked) == len(trips[64][0].controls)
    assert np.array_equal(clear, trips[64][0].back[-1])
    assert not np.array_equal(noisy, clear)


def test_without_the_game_every_key_says_why(
    library: Library, plan: Plan, make_world: MakeWorld
) -> None:
    plain = Library(footage=library.footage, controls=(), frame_size=library.frame_size)

    report: Any = grade(make_world("real"), plain, plan, quiet)

    assert set(report) == set(KEYS)
    assert all(item["value"] is None and "side files" in item["why"] for item in report.values())


def test_the_detector_learns_what_it_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detector, "STEPS", 120)
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 120, (60, 48, 64, 3), dtype=np.uint8)
    truth = []
    for frame in frames:
        x, y = rng.integers(6, 58), rng.integers(6, 42)
        frame[y - 4 : y + 4, x - 3 : x + 3] = (220, 90, 60)
        truth.append(np.array([[float(x), float(y)]]))
    model = detector._train(frames[:40], truth[:40])

    trained = detector.Detector(model, 0.5, 1.0)

    pairs, found, wanted = detector.counts(trained.points(frames[40:]), truth[40:])
    assert detector.f1(pairs, found, wanted) > 0.8
    empty = rng.integers(0, 120, (5, 48, 64, 3), dtype=np.uint8)
    assert sum(map(len, trained.points(empty))) <= 1


def test_a_detection_counts_once_and_only_nearby() -> None:
    monsters = detector.middles([(0, 0, 10, 10), (8, 0, 10, 10), (50, 50, 2, 2)])
    assert monsters.tolist() == [[5.0, 5.0], [13.0, 5.0]]  # the third is a speck

    assert detector.matches(np.array([[6.0, 5.0]]), monsters) == 1
    assert detector.matches(np.array([[6.0, 5.0], [12.0, 5.0]]), monsters) == 2
    assert detector.matches(np.array([[40.0, 5.0]]), monsters) == 0
    assert detector.matches(np.zeros((0, 2)), monsters) == 0
    assert detector.f1(1, 1, 2) == pytest.approx(2 / 3)


def test_monsters_that_come_back_are_counted_and_strangers_are_no_harm() -> None:
    def trip(number: int) -> Any:
        class Stub:
            before = {1: (20.0, 20.0, 10.0, 10.0)}  # noqa: RUF012
            after = {1: (20.0, 20.0, 10.0, 10.0), 2: (50.0, 20.0, 10.0, 10.0)}  # noqa: RUF012
            unit = number

        return Stub()

    def seen(*points: tuple[float, float]) -> Any:
        class Stub:
            def points(self, frames: Any) -> Any:
                return [np.array(points, dtype=float).reshape(-1, 2)] * len(frames)

        return Stub()

    def score(*points: tuple[float, float]) -> Any:
        shown = iter([([trip(0), trip(1)], np.zeros((2, 8, 4, 4, 3), np.uint8))])
        return block_memory._reappeared(seen(*points), shown)["value"]

    assert score((25, 25)) == 1.0
    assert score((25, 25), (55, 25)) == 1.0  # a monster that was not there before
    assert score() == 0.0
    assert score((25, 25), (90, 40)) == pytest.approx(2 / 3)  # one that is nowhere
