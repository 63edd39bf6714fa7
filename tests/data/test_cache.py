"""The frame cache: same frames as reading, reused when unchanged, never trusted when damaged."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from worldsim.data import cache
from worldsim.data.cache import build_cache, read_index
from worldsim.data.video import read_frames
from worldsim.errors import DataError

FIXTURE = Path(__file__).parent.parent / "fixtures" / "doom-hall" / "doom-hall-010200.mkv"
SIZE = (24, 32)


def no_reading(*args: object) -> None:
    raise AssertionError("a cached file was read again")


def test_cached_frames_are_the_frames(tmp_path: Path) -> None:
    (frames,) = build_cache([FIXTURE], SIZE, tmp_path)

    assert (frames == read_frames(FIXTURE, SIZE)).all()
    assert isinstance(frames, np.memmap)
    (entry,) = read_index(tmp_path)
    assert (entry.frames, entry.size) == (591, SIZE)
    assert entry.fps == pytest.approx(35.0, rel=1e-3)


def test_unchanged_files_are_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = build_cache([FIXTURE], SIZE, tmp_path)
    monkeypatch.setattr(cache, "iterate_frames", no_reading)

    (second,) = build_cache([FIXTURE], SIZE, tmp_path)

    assert (first == second).all()


def test_changed_content_and_another_size_are_read_anew(tmp_path: Path) -> None:
    video = tmp_path / "a.mkv"
    shutil.copy(FIXTURE, video)
    build_cache([video], SIZE, tmp_path / "c")
    with video.open("ab") as file:
        file.write(b"\0")

    build_cache([video], SIZE, tmp_path / "c")
    (large,) = build_cache([video], (48, 64), tmp_path / "c")

    assert large.shape[1:3] == (48, 64)
    assert len(read_index(tmp_path / "c")) == 3


def test_progress_is_reported_per_file(tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []

    build_cache(
        [FIXTURE, FIXTURE],
        SIZE,
        tmp_path,
        lambda done, total, p: seen.append((done, total, p.name)),
    )

    assert seen == [(0, 2, FIXTURE.name), (1, 2, FIXTURE.name)]


def test_an_unreadable_file_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"garbage" * 99)

    with pytest.raises(DataError, match=r"bad\.mp4"):
        build_cache([bad], SIZE, tmp_path / "c")

    assert not list((tmp_path / "c").glob("*.part"))


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    build_cache([FIXTURE], SIZE, tmp_path)
    (shard,) = tmp_path.glob("*.npy")
    shard.write_bytes(shard.read_bytes()[:5000])

    with pytest.raises(DataError, match="damaged cache file"):
        build_cache([FIXTURE], SIZE, tmp_path)
