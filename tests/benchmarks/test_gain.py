"""How far the picture moves, against how far the player does."""

from pathlib import Path

import pytest

from worldsim.benchmarks.gain import measure_gains, moving
from worldsim.errors import DataError
from worldsim.world import World

DATA = Path(__file__).parents[1] / "data" / "doom-hall"


def test_each_gain_is_graded_on_the_same_moments_and_leaves_nothing_behind() -> None:
    world = World.load("doom-hall")
    before = world.config.dynamics.gain

    found = measure_gains(world, DATA, [1.0, 3.0], states=0, windows=2)

    assert list(found) == ["1", "3"]
    for row in found.values():
        assert row["cfr4"]["value"] is None  # no states, so there is nothing to retrieve
        assert row["g1"]["n"] == found["1"]["g1"]["n"] > 0
    assert found["1"]["g1"]["value"] > found["3"]["g1"]["value"]  # type: ignore[operator]
    assert world._model.dynamics.head.mover.config.gain == before


def test_a_gain_ends_with_its_block_even_if_that_fails() -> None:
    world = World.load("doom-hall")
    mover = world._model.dynamics.head.mover
    before = mover.config
    with pytest.raises(RuntimeError), moving(world, 2.0):
        assert mover.config.gain == 2.0
        raise RuntimeError
    assert mover.config == before


def test_recordings_without_side_files_are_refused(tmp_path: Path) -> None:
    video = next(DATA.glob("*.mkv"))
    (tmp_path / video.name).write_bytes(video.read_bytes())
    with pytest.raises(DataError, match="side files"):
        measure_gains(World.load("doom-hall"), tmp_path, [1.0], states=1, windows=1)
