"""The game is a function of game, mode, seed and controls; replays of it are exact."""

import ctypes
import hashlib
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from worldsim.data.recording import Recording
from worldsim.data.video import read_frames
from worldsim.errors import DataError, MachineError
from worldsim.games import doom
from worldsim.games.doom import DoomGame, replay
from worldsim.games.table import ATTACK, CONTROLS, NOOP, TURN_LEFT, TURN_RIGHT

FIXTURE = Path(__file__).parent.parent / "data" / "doom-hall" / "doom-hall-010200.mkv"


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    pytest.importorskip("vizdoom", reason="needs the extra [games]")


def digest(game: str, mode: str, seed: int) -> str:
    """Hash of 150 frames and their sound under fixed controls."""
    found = hashlib.sha256()
    with DoomGame(game, mode) as running:
        scene = running.start(seed)
        for tic in range(150):
            found.update(scene.frame.tobytes() + scene.sound.tobytes())
            following = running.tic(tic // 10 % len(CONTROLS))
            assert following is not None
            scene = following
    return found.hexdigest()


@pytest.mark.parametrize("game", ["doom-hall", "doom-maze", "doom-arena"])
@pytest.mark.parametrize("mode", ["invulnerable", "ordinary"])
def test_the_same_seed_gives_the_same_frames_and_sound(game: str, mode: str) -> None:
    assert digest(game, mode, 1) == digest(game, mode, 1)
    assert digest(game, mode, 1) != digest(game, mode, 2)


def test_a_control_acts_in_the_very_next_frame() -> None:
    with DoomGame("doom-hall", "ordinary") as running:
        angle = running.start(0).angle
        left = running.tic(TURN_LEFT)
        right = running.tic(TURN_RIGHT)

    assert left is not None and right is not None
    assert 0 < left.angle - angle < 5
    assert right.angle == pytest.approx(angle, abs=1e-3)


def test_what_was_asked_for_is_what_the_engine_executed() -> None:
    with DoomGame("doom-hall", "ordinary") as running:
        running.start(0)
        for control in range(len(CONTROLS)):
            running.tic(control)
            executed = tuple(int(value) for value in running._engine.get_last_action())
            assert executed == doom.BUTTON_STATES[control]


def test_the_shot_is_heard_in_the_tic_in_which_it_is_seen() -> None:
    with DoomGame("doom-hall", "ordinary") as running:
        running.start(1)
        scenes = [running.tic(NOOP) for _ in range(3)] + [running.tic(ATTACK) for _ in range(23)]
    seen = [scene for scene in scenes if scene is not None]
    gun = np.array([scene.frame[60:95, 70:90].mean() for scene in seen])
    loudness = np.array([np.abs(scene.sound.astype(float)).mean() for scene in seen])

    flash = 10 + int(np.argmax(np.diff(gun)[10:])) + 1
    bang = 10 + int(np.argmax(np.diff(loudness)[10:])) + 1

    assert flash == bang


def test_a_replay_reproduces_the_recorded_episode() -> None:
    recording = Recording.open(FIXTURE)
    frames = read_frames(FIXTURE)
    path = recording.controls[1:].tolist()

    with replay(asdict(recording.header), path[:100]) as game:
        shown = [game.frame()] + [game.step(control) for control in path[100:140]]
        pose = game.scene()

    # The recording went through a video codec: close, not equal; a tic off would be far.
    error = np.abs(np.stack(shown).astype(int) - frames[100:141]).mean(axis=(1, 2, 3))
    assert error.max() < 8
    assert (round(pose.x, 2), round(pose.y, 2)) == tuple(recording.poses[140, :2])


def test_branches_of_one_moment_start_alike_and_part() -> None:
    recording = Recording.open(FIXTURE)
    path = recording.controls[1:61].tolist()
    starts, ends = [], []
    for control in (TURN_LEFT, TURN_RIGHT):
        with replay(asdict(recording.header), path) as game:
            starts.append(game.frame())
            ends.append([game.step(control) for _ in range(4)][-1])

    assert (starts[0] == starts[1]).all()
    assert (ends[0] != ends[1]).any()


def test_a_replay_beyond_death_is_an_error() -> None:
    recording = Recording.open(FIXTURE)
    path = recording.controls[1:].tolist()

    with pytest.raises(DataError, match="ended within"):
        replay(asdict(recording.header), [*path, *[NOOP] * 500])
    with replay(asdict(recording.header), path) as game, pytest.raises(DataError, match="is over"):
        for _ in range(500):
            game.step(NOOP)


def test_wrong_names_and_controls_are_refused() -> None:
    with pytest.raises(DataError, match="unknown game 'doom-cave'; known: doom-hall"):
        DoomGame("doom-cave", "ordinary")
    with pytest.raises(DataError, match="unknown mode 'god'"):
        DoomGame("doom-hall", "god")
    with DoomGame("doom-hall", "ordinary") as running:
        running.start(0)
        with pytest.raises(ValueError, match="control must be < 8, got 8"):
            running.tic(8)


def test_missing_openal_is_named_before_anything_is_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", missing)

    with pytest.raises(MachineError, match="install the system package libopenal1"):
        DoomGame("doom-hall", "ordinary")


def test_silent_openal_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doom, "mono", lambda sound: np.zeros(630, dtype=np.int16))

    with pytest.raises(MachineError, match="sound is all zeros"):
        doom.check_sound("doom-hall")


def test_missing_vizdoom_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vizdoom", None)

    with pytest.raises(MachineError, match=r"worldsim-engine\[games\]"):
        DoomGame("doom-hall", "ordinary")
