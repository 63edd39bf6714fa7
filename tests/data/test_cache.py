"""The frame cache: same frames as reading, reused when unchanged, never trusted when damaged."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from worldsim.data import cache
from worldsim.data.cache import FrameCache, read_index
from worldsim.data.video import read_frames
from worldsim.errors import DataError

FIXTURE = Path(__file__).parent.parent / "data" / "doom-hall" / "doom-hall-010200.mkv"
SIZE = (24, 32)


def no_reading(*args: object) -> None:
    raise AssertionError("a cached file was read again")


def test_cached_frames_are_the_frames(tmp_path: Path) -> None:
    cached = FrameCache(tmp_path).get(FIXTURE, SIZE)
    frames = cached.frames

    assert (frames == read_frames(FIXTURE, SIZE)).all()
    assert isinstance(frames, np.memmap)
    (entry,) = read_index(tmp_path)
    assert (entry.frames, entry.size) == (591, SIZE)
    assert entry.fps == pytest.approx(35.0, rel=1e-3)


def test_unchanged_files_are_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = FrameCache(tmp_path).get(FIXTURE, SIZE)
    monkeypatch.setattr(cache, "iterate_timed", no_reading)

    second = FrameCache(tmp_path).get(FIXTURE, SIZE)

    assert (first.frames == second.frames).all()


def test_changed_content_and_another_size_are_read_anew(tmp_path: Path) -> None:
    video = tmp_path / "a.mkv"
    shutil.copy(FIXTURE, video)
    FrameCache(tmp_path / "c").get(video, SIZE)
    with video.open("ab") as file:
        file.write(b"\0")

    FrameCache(tmp_path / "c").get(video, SIZE)
    large = FrameCache(tmp_path / "c").get(video, (48, 64))

    assert large.frames.shape[1:3] == (48, 64)
    assert len(read_index(tmp_path / "c")) == 3


def test_another_rate_keeps_the_nearest_frames_and_says_which(tmp_path: Path) -> None:
    every = FrameCache(tmp_path).get(FIXTURE, SIZE)

    half = FrameCache(tmp_path).get(FIXTURE, SIZE, fps=17.5)
    again = FrameCache(tmp_path).get(FIXTURE, SIZE, fps=17.5)

    assert half.source.tolist() == list(range(0, 591, 2))
    assert (half.frames == every.frames[::2]).all()
    assert (again.source == half.source).all()
    assert again.name == half.name != every.name


def test_a_recording_at_its_own_rate_keeps_every_frame(tmp_path: Path) -> None:
    cached = FrameCache(tmp_path).get(FIXTURE, SIZE, fps=35.0)

    assert cached.source.tolist() == list(range(591))


def test_an_unreadable_file_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"garbage" * 99)

    with pytest.raises(DataError, match=r"bad\.mp4"):
        FrameCache(tmp_path / "c").get(bad, SIZE)

    assert not list((tmp_path / "c").glob("*.part"))


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    FrameCache(tmp_path).get(FIXTURE, SIZE)
    (shard,) = tmp_path.glob("*.npy")
    shard.write_bytes(shard.read_bytes()[:5000])

    with pytest.raises(DataError, match="damaged cache file"):
        FrameCache(tmp_path).get(FIXTURE, SIZE)
