"""Frames out of files: area averaging is what it says, and bad files give one error."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from worldsim.data.video import frame_to_size, read_frames, read_sound
from worldsim.data.writer import VideoWriter
from worldsim.errors import DataError

FIXTURE = Path(__file__).parent.parent / "data" / "doom-hall" / "doom-hall-010200.mkv"


def area_average(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The definition: repeat pixels until both grids meet, then take means."""
    height, width, _ = frame.shape
    fine = frame.repeat(size[0], axis=0).repeat(size[1], axis=1).astype(np.float64)
    means: np.ndarray = fine.reshape(size[0], height, size[1], width, 3).mean(axis=(1, 3))
    return means


@pytest.mark.parametrize("size", [(96, 128), (60, 80), (7, 11), (12, 5), (240, 320)])
def test_resizing_is_area_averaging(size: tuple[int, int]) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (24, 40, 3)).astype(np.uint8)

    small = frame_to_size(frame, size)

    assert small.shape == (*size, 3)
    assert np.abs(small - area_average(frame, size)).max() <= 0.501


def test_resizing_many_frames_equals_resizing_each() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 24, 40, 3)).astype(np.uint8)

    together = frame_to_size(frames, (10, 16))

    assert together.shape == (2, 3, 10, 16, 3)
    assert (together[1, 2] == frame_to_size(frames[1, 2], (10, 16))).all()


def test_the_same_size_is_left_alone() -> None:
    frame = np.zeros((4, 6, 3), dtype=np.uint8)

    assert frame_to_size(frame, (4, 6)) is frame


def test_reading_from_a_start_equals_slicing_the_whole() -> None:
    whole = read_frames(FIXTURE, (24, 32))

    assert (read_frames(FIXTURE, (24, 32), start=100, count=7) == whole[100:107]).all()
    assert (read_frames(FIXTURE, (24, 32), start=len(whole) - 2, count=9) == whole[-2:]).all()


def test_reading_past_the_end_is_an_error() -> None:
    with pytest.raises(DataError, match="has no frame 100000"):
        read_frames(FIXTURE, (24, 32), start=100_000)


def test_a_written_video_reads_back(tmp_path: Path) -> None:
    ramp = np.linspace(40, 200, 32, dtype=np.uint8)
    frames = np.broadcast_to(ramp[None, None, :, None], (9, 24, 32, 3)).copy()
    writer = VideoWriter(tmp_path / "a.mkv", size=(24, 32), fps=30.0)
    for frame in frames:
        writer.write(frame)
    writer.close()

    back = read_frames(tmp_path / "a.mkv")

    assert back.shape == frames.shape
    assert np.abs(back.astype(int) - frames).mean() < 4


def test_odd_sizes_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="size must be even"):
        VideoWriter(tmp_path / "a.mkv", size=(25, 32), fps=30.0)


@pytest.mark.parametrize("read", [read_frames, read_sound])
@pytest.mark.parametrize("content", [b"", b"garbage" * 100, None])
def test_unreadable_files_give_a_data_error(
    tmp_path: Path, content: bytes | None, read: Callable[[Path], object]
) -> None:
    path = tmp_path / "a.mp4"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(DataError, match=r"a\.mp4"):
        read(path)


def test_a_silent_video_has_no_sound_to_read(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "a.mkv", size=(24, 32), fps=30.0)
    for _ in range(3):
        writer.write(np.zeros((24, 32, 3), dtype=np.uint8))
    writer.close()

    with pytest.raises(DataError, match="holds no audio stream"):
        read_sound(tmp_path / "a.mkv")
