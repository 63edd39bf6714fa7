"""What anyone tries first: two minutes of training on one short recording give a world to play."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from worldsim.data.video import read_frames
from worldsim.training.run import train
from worldsim.world import World

DATA = Path(__file__).parents[1] / "data"
CONTEXT, BEGIN, END, EVERY = 32, 40, 560, 10  # frames


def psnr(picture: NDArray[np.uint8], real: NDArray[np.uint8]) -> float:
    """dB."""
    error = (picture.astype(np.float64) - real) ** 2
    return float(10 * np.log10(255**2 / max(error.mean(), 1e-3)))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """What `worldsim train tests/data --minutes 2 --preset small` makes."""
    return World.load(train(DATA, tmp_path_factory.mktemp("runs"), minutes=2, preset="small"))


def test_two_minutes_beat_a_still_and_the_codes_say_what_comes(world: World) -> None:
    frames = read_frames(DATA / "doom-hall" / "doom-hall-010200.mkv", world.frame_size)
    codes = world.infer_actions(frames)
    assert codes is not None
    scores = []
    for now in range(BEGIN, END, EVERY):
        seen = slice(now - CONTEXT, now)
        state = world.reset(frames[seen], actions=codes[seen][:-1])

        def one(code: int, state: object = state, now: int = now) -> float:
            _, out = world.step(state, code, flow_steps=1, noise_scale=0.0)  # type: ignore[arg-type]
            return psnr(out.frame[0], frames[now])

        inferred = one(int(codes[now - 1]))
        random = np.mean([one(c) for c in range(world.num_actions)])  # what a random one expects
        scores.append((inferred, float(random), psnr(frames[now - 1], frames[now])))

    inferred, random, still = np.mean(scores, axis=0)
    assert inferred > still
    assert inferred > random


def test_it_plays_with_sound(world: World) -> None:
    state = world.reset(seed=0)
    for code in range(world.num_actions):
        state, out = world.step(state, code)

    assert out.frame.std() > 5
    assert out.audio is not None
    assert out.audio.shape == (1, 630)
    assert np.isfinite(out.audio).all()
