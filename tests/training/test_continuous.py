"""Continuous controls, on the real game: the picture turns by the angle that was asked for.

The hall is recorded by degrees per tic, a tiny world is trained on it, and then asked for angles in
moments of a recording that it has not seen. How far the picture went is measured by block matching,
in what the world shows and, for the same angles, in what the game showed.
"""

import faulthandler
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from worldsim.data.recording import Recording
from worldsim.data.video import read_frames
from worldsim.dynamics.matching import match
from worldsim.games.table import AXES
from worldsim.tokenizer import to_pixels
from worldsim.training.run import train
from worldsim.world import World

ANGLES = (-7.0, -5.0, -3.0, -1.0, 1.0, 3.0, 5.0, 7.0)  # degrees to the right
CONTEXT, EVERY = 16, 40  # frames
TOKENIZER_STEPS, DYNAMICS_STEPS = 120, 260


def moved(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(N,): by how many pixels to the left the middle rows of each picture went, on the mean."""
    a, b = (to_pixels(torch.from_numpy(frames)) for frames in (before, after))
    flow = match(a, b, (a.shape[-2] // 16, a.shape[-1] // 16))[:, 0]
    rows = flow.shape[1]
    found: NDArray[np.float64] = flow[:, rows // 3 : -rows // 3].mean(dim=(1, 2)).double().numpy()
    return found


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minute and a half to learn from, and some seconds to be asked about."""
    pytest.importorskip("vizdoom", reason="needs the extra [games]")
    from worldsim.games.recorder import record

    folder = tmp_path_factory.mktemp("recordings")
    record("doom-hall-delta", folder / "train", minutes=1.5, seed=0)
    record("doom-hall-delta", folder / "test", minutes=0.5, seed=100_000)
    return folder


@pytest.fixture(scope="module")
def world(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    faulthandler.cancel_dump_traceback_later()  # on a busy machine this takes many minutes
    runs = tmp_path_factory.mktemp("runs")
    known = {"preset": "small", "actions": "labelled"}
    first = train(
        recordings / "train", runs / "a", steps=TOKENIZER_STEPS, stages=["tokenizer"], **known
    )
    second = train(
        recordings / "train",
        runs / "b",
        steps=DYNAMICS_STEPS,
        stages=["dynamics"],
        init=first,
        **known,
    )
    return World.load(second)


def test_the_game_turns_by_what_its_side_file_says(recordings: Path) -> None:
    for video in (recordings / "train").glob("*.mkv"):
        recording = Recording.open(video)

        assert recording.header.axes == AXES and recording.header.controls == ()
        turned = np.diff(recording.poses[:, 2])
        turned = (turned + 180) % 360 - 180  # to the left
        np.testing.assert_allclose(turned, -recording.axes[1:, 0], atol=0.05)


def test_the_picture_turns_by_the_angle_that_was_asked_for(world: World, recordings: Path) -> None:
    assert [axis.name for axis in world.axes] == list(AXES)
    shown: list[NDArray[np.float64]] = []
    asked, real = [], []
    for video in sorted((recordings / "test").glob("*.mkv")):
        frames, axes = read_frames(video, world.frame_size), Recording.open(video).axes
        asked.append(axes[1:, 0])
        real.append(moved(frames[:-1], frames[1:]))
        for now in range(CONTEXT, len(frames), EVERY):
            seen = slice(now - CONTEXT, now)
            state = world.reset(frames[seen], actions=axes[seen][1:], batch=len(ANGLES))
            actions = np.array([(angle, 0.0, 0.0) for angle in ANGLES])
            _, out = world.step(state, actions, flow_steps=1, noise_scale=0.0)
            shown.append(moved(np.repeat(frames[now - 1 : now], len(ANGLES), axis=0), out.frame))
    means = np.mean(shown, axis=0)
    slope = np.polyfit(ANGLES, means, 1)[0]
    wanted = np.polyfit(np.concatenate(asked), np.concatenate(real), 1)[0]

    print(f"px per degree: world {slope:.3f}, game {wanted:.3f}; means {means.round(2)}")
    assert (np.diff(means) > 0).all(), "more degrees, more pixels"
    assert means[0] < 0 < means[-1], "to the side that was asked for"
    assert 0.4 < slope / wanted < 1.5
