"""Gunshots: heard in real footage where they were, and not in silence or in another moment."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from worldsim.data.sound import FULL, read_rows
from worldsim.evaluation import block_audio, spectrograms
from worldsim.evaluation.block_audio import HORIZON, Heard, attack_of, measures
from worldsim.evaluation.footage import Library, load_library
from worldsim.evaluation.plan import plan_of
from worldsim.evaluation.shots import Flashes, Listener, Shots, after_attack, matched

FPS, SAMPLES = 35.0, 630


@dataclass
class Echo:
    """What the measures ask of a world."""

    fps: float = FPS

    def repeat_sound(self, sound: np.ndarray) -> np.ndarray:
        return np.asarray(0.5 * sound)


@pytest.fixture(scope="module")
def library(root: Path) -> Library:
    folder = root / "tests" / "data" / "doom-hall"
    return load_library(folder, (96, 128), max_frames=2000, log=lambda text: None)


@pytest.fixture(scope="module")
def sound(library: Library) -> np.ndarray:
    footage = library.footage[0]
    rows = read_rows(footage.path, len(footage.frames), FPS, SAMPLES)
    assert rows is not None
    return rows.astype(np.float32) / FULL


@pytest.fixture(scope="module")
def shots(library: Library, sound: np.ndarray) -> Shots:
    found = Shots.fit(Listener(SAMPLES, FPS), [sound], [attack_of(library, attacks(library))])
    assert found is not None
    return found


def attacks(library: Library) -> Any:
    return library.footage[0].controls


def heard(library: Library, sound: np.ndarray) -> list[Heard]:
    """Real footage as a world that imagines it perfectly."""
    windows = library.windows(context=16, horizon=HORIZON, count=4, seed=0)
    found = []
    for window in windows:
        part = sound[window.now + 1 :][:HORIZON]
        attack = attack_of(library, window.future_controls(HORIZON))
        found.append(Heard(window, attack, part, part, window.future(HORIZON)))
    return found


def graded(shots: Shots, library: Library, sound: np.ndarray, rows: list[Heard]) -> dict[str, Any]:
    ticks = np.rint(shots.heard(sound, attack_of(library, attacks(library))) * FPS).astype(np.int64)
    flashes = Flashes.fit([library.footage[0].frames], [ticks])
    return measures(Echo(), shots, flashes, rows)  # type: ignore[arg-type]


def test_shots_follow_attacks_at_the_pace_of_the_gun(
    shots: Shots, library: Library, sound: np.ndarray
) -> None:
    times = shots.heard(sound, attack_of(library, attacks(library)))

    assert len(times) >= 5
    assert np.diff(times).min() > 0.3, "the pistol fires every 14 tics"
    assert len(shots.heard(sound, np.zeros(len(sound), np.bool_))) == 0


def test_real_sound_is_perfect_and_silence_and_other_moments_fail(
    shots: Shots, library: Library, sound: np.ndarray
) -> None:
    rows = heard(library, sound)
    report = graded(shots, library, sound, rows)

    assert report["onset_f1"]["value"] == 1.0
    assert report["onset_f1_silence"]["value"] == 0.0
    assert report["onset_f1_shuffled"]["value"] < 0.6
    assert report["av_offset_ms"]["value"] < 30
    assert report["flashes"]["value"] > 0.7
    assert report["loudness"]["value"] == pytest.approx(1.0)


def test_late_sound_is_found_late(shots: Shots, library: Library, sound: np.ndarray) -> None:
    late = [replace(h, imagined=np.roll(h.imagined, 3, axis=0)) for h in heard(library, sound)]
    report = graded(shots, library, sound, late)

    assert report["onset_f1"]["value"] < 0.3, "86 ms are no hit"
    assert report["av_offset_ms"]["value"] > 60


def test_no_shot_is_no_number(library: Library) -> None:
    silence = np.zeros((200, SAMPLES), np.float32)
    assert Shots.fit(Listener(SAMPLES, FPS), [silence], [np.ones(200, np.bool_)]) is None


def test_a_time_is_matched_once_and_within_the_window() -> None:
    times = np.array([0.1, 0.5, 0.52, 1.0], np.float32)
    assert matched(times, np.array([0.14, 0.51, 1.06], np.float32), 0.05) == 2
    assert matched(times, times, 0.05) == 4
    assert after_attack(np.array([0, 1, 0, 0, 0, 0, 0, 0, 0], np.bool_)).sum() == 7


def test_a_silent_world_is_not_graded(library: Library) -> None:
    class Silent:
        sample_rate, bindings = None, {}

    report, rows = block_audio.grade(
        Silent(),  # type: ignore[arg-type]
        library,
        plan_of("smoke"),
        lambda text: None,
    )
    assert not rows
    assert {graded["why"] for graded in report.values() if isinstance(graded, dict)} == {
        "this world is silent"
    }


def test_spectrograms_are_drawn(library: Library, sound: np.ndarray, tmp_path: Path) -> None:
    spectrograms.write(heard(library, sound), FPS, tmp_path / "sound.png")

    with Image.open(tmp_path / "sound.png") as image:
        picture = np.asarray(image)
    assert picture.shape[1] == HORIZON * 3 * 3
    assert picture.max() > 200
