"""The mode interactive: as many flow steps as there is time for, never more."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worldsim.costs import STEPS, Cost, Pace
from worldsim.world import World


def test_flow_steps_follow_the_time_that_is_left() -> None:
    pace = Pace(Cost(tick=0.020, step=0.003), most=4)  # 4 steps 20 ms, 2 steps 14, 1 step 11

    assert [pace.steps(left) for left in (0.030, 0.015, 0.012, 0.001)] == [4, 2, 1, 1]


def test_a_machine_that_slows_down_takes_fewer_and_recovers() -> None:
    pace = Pace(Cost(tick=0.020, step=0.003), most=4)
    for _ in range(40):
        pace.note(4, 0.040)
    slow = pace.steps(0.025)
    for _ in range(80):
        pace.note(slow, 0.008)

    assert slow < 4
    assert pace.steps(0.025) == 4


@given(st.floats(0.0, 1.0), st.sampled_from(STEPS))
def test_never_more_than_was_asked_for(left: float, most: int) -> None:
    assert 1 <= Pace(Cost(tick=0.02, step=0.003), most).steps(left) <= most


def test_modes_set_the_steps_and_frames_say_how_many_they_got(
    small: Path, frames: np.ndarray
) -> None:
    steps = {
        mode: World.load(small, mode=mode, flow_steps=given)
        for mode, given in (("fast", None), ("quality", None), ("interactive", None))
    }
    for mode, wanted in (("fast", 1), ("quality", 4), ("interactive", 4)):
        world = steps[mode]
        prediction = world.predict(world.reset(frames), 1, left=60.0)
        assert prediction.output.flow_steps == wanted

    with pytest.raises(ValueError, match="mode must be one of fast, interactive, quality"):
        World.load(small, mode="best")


def test_a_late_frame_gets_fewer_steps_and_the_same_noise(small: Path, frames: np.ndarray) -> None:
    world, plain = World.load(small, mode="interactive"), World.load(small)
    state = world.reset(frames)
    world._paces[1] = Pace(Cost(tick=0.020, step=0.004), most=4)

    late = world.predict(state, 1, left=0.001)

    assert late.output.flow_steps == 1
    wanted = plain.predict(state, 1, flow_steps=1).output.frame
    assert np.array_equal(late.output.frame, wanted)
    assert world.predict(state, 1, flow_steps=4).output.flow_steps == 4  # a wish is a wish
