"""Sound on the clock of the frames, whatever rates a video has."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from odd import write_odd

from worldsim.data.sound import FULL, is_silent, read_rows, sound_of_frames
from worldsim.data.video import read_sound
from worldsim.data.writer import VideoWriter
from worldsim.errors import DataError

FIXTURE = Path(__file__).parents[1] / "data" / "doom-hall" / "doom-hall-010200.mkv"


def write_beeps(path: Path, *, fps: float, rate: int, every: int, frames: int) -> None:
    """A silent clip but for a click of 4 ms at the beginning of each `every`-th frame."""
    line = np.zeros(round(rate * frames / fps) + rate, dtype=np.int16)
    for frame in range(0, frames, every):
        begin = round(rate * frame / fps)
        line[begin : begin + rate // 250] = 16000
    writer = VideoWriter(path, size=(16, 16), fps=fps, sample_rate=rate)
    cuts = [round(rate * frame / fps) for frame in range(frames + 1)]
    for begin, end in pairwise(cuts):
        writer.write(np.zeros((16, 16, 3), dtype=np.uint8), line[begin:end])
    writer.close()


def test_at_its_own_rates_every_sample_is_where_it_was(tmp_path: Path) -> None:
    line, rate = read_sound(FIXTURE)
    rows = read_rows(FIXTURE, 591, 35.0, 630)

    assert rate == 22050 and rows is not None
    assert rows.shape == (591, 630)
    assert np.abs(rows.ravel() / FULL - line[: rows.size]).max() < 1e-4


@pytest.mark.parametrize(
    ("fps", "rate", "at", "samples"),
    [(24.0, 48000, 24.0, 920), (30.0, 22050, 15.0, 1470), (29.97, 44100, 29.97, 736)],
)
def test_clicks_stay_at_their_frames_when_rates_change(
    tmp_path: Path, fps: float, rate: int, at: float, samples: int
) -> None:
    write_beeps(tmp_path / "a.mkv", fps=fps, rate=rate, every=10, frames=200)
    ticks = round(200 * at / fps)

    rows = read_rows(tmp_path / "a.mkv", ticks, at, samples)

    assert rows is not None and rows.shape == (ticks, samples)
    power = np.square(rows / FULL).mean(axis=1)
    loud = np.flatnonzero(power > 0.3 * power.max())
    assert loud.tolist() == list(range(0, ticks, round(10 * at / fps)))


def test_it_is_kept_and_read_again_and_damage_is_named(tmp_path: Path) -> None:
    kept = tmp_path / "a.npy"
    first = sound_of_frames(FIXTURE, kept, 591, 35.0, 630)
    again = sound_of_frames(tmp_path / "gone.mkv", kept, 591, 35.0, 630)

    assert first is not None and again is not None
    assert isinstance(again, np.memmap)
    assert np.array_equal(first, again)
    assert not is_silent(first) and is_silent(np.zeros_like(first))
    kept.write_bytes(kept.read_bytes()[:1000])
    with pytest.raises(DataError, match="damaged cache file"):
        sound_of_frames(FIXTURE, kept, 591, 35.0, 630)


def test_a_video_without_sound_has_none(tmp_path: Path) -> None:
    write_odd(tmp_path / "a.mkv")

    assert sound_of_frames(tmp_path / "a.mkv", tmp_path / "a.npy", 8, 12.0, 100) is None
    assert not (tmp_path / "a.npy").exists()
