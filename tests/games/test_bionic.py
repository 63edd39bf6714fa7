"""The platformer: a function of seed and controls, recorded like the other games."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from worldsim.data.recording import Recording
from worldsim.data.video import read_frames, read_sound
from worldsim.errors import DataError
from worldsim.games.bionic import SAMPLES, BionicGame
from worldsim.games.bionic_engine import Mixer
from worldsim.games.recorder import record
from worldsim.games.table import BIONIC_CONTROLS

NOOP, LEFT, RIGHT, JUMP, ATTACK = range(5)


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    pytest.importorskip("bionicblue", reason="needs the extra [games]")


def test_sounds_are_mixed_to_the_sample() -> None:
    mixer = Mixer()
    ramp = np.arange(2 * SAMPLES + 5, dtype=np.int16)
    mixer.play("shot", ramp, 0)
    mixer.play("hum", np.full(7, 1, np.int16), -1)

    first, second, third = mixer.frame(), mixer.frame(), mixer.frame()
    mixer.stop("hum")

    assert (first[:7] == ramp[:7] + 1).all()
    assert (second == ramp[SAMPLES : 2 * SAMPLES] + (second - ramp[SAMPLES : 2 * SAMPLES])).all()
    assert third[:5].min() >= 2 * SAMPLES and third[6:].max() <= 1
    assert not mixer.frame().any()


def test_the_same_seed_and_controls_give_the_same_frames_and_sound() -> None:
    def digest(seed: int) -> str:
        found = hashlib.sha256()
        with BionicGame("bionic-blue", "ordinary") as running:
            scene = running.start(seed)
            for frame in range(120):
                found.update(scene.frame.tobytes() + scene.sound.tobytes())
                following = running.tic(frame // 10 % len(BIONIC_CONTROLS))
                assert following is not None
                scene = following
        return found.hexdigest()

    assert digest(1) == digest(1) != digest(2)


def test_controls_do_what_they_are_called() -> None:
    with BionicGame("bionic-blue", "ordinary") as running:
        scene = first = running.start(0)
        for _ in range(6):
            scene = running.tic(RIGHT) or scene
        assert scene.x > first.x and scene.angle == 0.0
        for _ in range(12):
            scene = running.tic(LEFT) or scene
        assert scene.x < first.x + 10 and scene.angle == 180.0
        heights = [(running.tic(JUMP) or scene).y for _ in range(8)]
        assert min(heights) < scene.y - 20, "up is less"
        for _ in range(25):
            scene = running.tic(NOOP) or scene
        shots = [running.tic(ATTACK) for _ in range(4)]
        assert any(t.category == "Projectile" for s in shots if s for t in s.things)
        assert any(s.sound.any() for s in shots if s)


def test_a_recording_is_whole(tmp_path: Path) -> None:
    summary = record("bionic-blue", tmp_path, minutes=0.2, seed=3)

    videos = sorted(tmp_path.glob("*.mkv"))
    assert summary.frames == sum(len(Recording.open(video).controls) for video in videos) == 360
    for video in videos:
        recording = Recording.open(video)
        assert recording.header.controls == BIONIC_CONTROLS and recording.header.fps == 30.0
        assert len(read_frames(video)) == len(recording.controls)
        sound, rate = read_sound(video)
        assert rate == 44_100 and len(sound) == SAMPLES * len(recording.controls)
        assert np.abs(sound).max() > 0.01
    things = [t for frame in Recording.open(videos[0]).objects() for t in frame]
    assert things and all((t.box is not None) == t.in_view for t in things)


def test_there_is_no_invulnerable_mode() -> None:
    with pytest.raises(DataError, match="bionic-blue has ordinary"):
        BionicGame("bionic-blue", "invulnerable")
