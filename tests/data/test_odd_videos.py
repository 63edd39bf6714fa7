"""Odd files are read as what they show; broken ones are named, and stop nothing (F47)."""

from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odd import write_odd

from worldsim.data.cache import FrameCache
from worldsim.data.scan import scan, scan_file
from worldsim.data.video import read_frames
from worldsim.errors import DataError


@pytest.mark.parametrize(
    ("rotation", "bright"), [(0, "left"), (90, "bottom"), (180, "right"), (-90, "top")]
)
def test_f47_a_rotated_video_is_turned_as_its_camera_was_held(
    tmp_path: Path, rotation: int, bright: str
) -> None:
    write_odd(tmp_path / "a.mp4", rotation=rotation)

    frame = read_frames(tmp_path / "a.mp4")[0].mean(axis=-1)

    height, width = frame.shape
    halves = {
        "left": frame[:, : width // 2],
        "right": frame[:, width // 2 :],
        "top": frame[: height // 2],
        "bottom": frame[height // 2 :],
    }
    assert max(halves, key=lambda side: halves[side].mean()) == bright
    assert scan_file(tmp_path / "a.mp4").size == (height, width)


def test_f47_ten_bits_are_read_as_eight(tmp_path: Path) -> None:
    write_odd(tmp_path / "eight.mkv")
    write_odd(tmp_path / "ten.mkv", codec="ffv1", pixels="yuv420p10le")

    eight, ten = read_frames(tmp_path / "eight.mkv"), read_frames(tmp_path / "ten.mkv")

    assert scan_file(tmp_path / "ten.mkv").ok
    assert np.abs(eight.astype(int) - ten).mean() < 4


def test_f47_a_changing_frame_rate_comes_out_even(tmp_path: Path) -> None:
    times = [0, 100, 200, 300, 320, 340, 360, 380, 400, 500, 600]  # ms
    write_odd(tmp_path / "a.mkv", frames=len(times), times=times)

    cached = FrameCache(tmp_path / "c").get(tmp_path / "a.mkv", (24, 32), fps=10.0)

    assert scan_file(tmp_path / "a.mkv").ok
    assert cached.source.tolist() == [0, 1, 2, 3, 8, 9, 10]


@pytest.mark.parametrize(
    "size", [(23, 31), (2, 2), pytest.param((4320, 7680), marks=pytest.mark.slow)], ids=str
)
def test_f47_any_size_is_brought_to_the_one_that_is_asked_for(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    write_odd(tmp_path / "a.mkv", codec="ffv1", size=size, frames=2, pixels="bgr0")

    assert scan_file(tmp_path / "a.mkv").size == size
    assert read_frames(tmp_path / "a.mkv", (16, 32)).shape == (2, 16, 32, 3)


def test_f47_a_container_under_another_name_is_known_by_its_content(tmp_path: Path) -> None:
    write_odd(tmp_path / "a.webm", codec="libvpx-vp9")
    (tmp_path / "a.webm").rename(tmp_path / "a.mp4")
    write_odd(tmp_path / "b.mp4")
    (tmp_path / "b.mp4").rename(tmp_path / "b.txt")

    results = {Path(r.path).name: r for r in scan(tmp_path)}

    assert results["a.mp4"].ok
    assert results["b.txt"].reason == (
        "not a video by its name (.txt; .mp4 .mkv .webm .avi .mov .m4v)"
    )


@pytest.mark.parametrize(
    "name", ["a\nb.mp4", "\u4e16\u754c \u00fc.mp4", "-i.mp4", "%d.mp4", " .mp4"]
)
def test_f47_any_name_is_only_a_name(tmp_path: Path, name: str) -> None:
    write_odd(tmp_path / "plain.mp4")
    (tmp_path / "plain.mp4").rename(tmp_path / name)

    (result,) = scan(tmp_path)

    assert (result.ok, result.frames) == (True, 8)
    assert len(FrameCache(tmp_path / ".c").get(tmp_path / name, (16, 16)).frames) == 8


def test_f47_links_that_go_round_end(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    write_odd(tmp_path / "below" / "a.mp4")
    (tmp_path / "below" / "up").symlink_to(tmp_path)
    (tmp_path / "self.mp4").symlink_to(tmp_path / "self.mp4")

    assert [Path(r.path).name for r in scan(tmp_path) if r.ok] == ["a.mp4"]


def test_f47_a_file_that_may_not_be_read_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_odd(tmp_path / "a.mp4")

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(av, "open", refuse)  # root may read everything, whatever chmod says
    (result,) = scan(tmp_path)

    assert result.reason is not None
    assert "Permission denied" in result.reason


def test_f47_a_title_in_another_encoding_does_not_spoil_a_video(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "Kueche"
        stream = container.add_stream("libx264", rate=12)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for level in (0, 80, 160):
            picture = np.full((32, 32, 3), level, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    content = path.read_bytes()
    assert content.count(b"Kueche") == 1
    path.write_bytes(content.replace(b"Kueche", b"K\xfcche "))

    assert scan_file(path).ok
    assert len(FrameCache(tmp_path / "c").get(path, (16, 16), fps=12.0).frames) == 3


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_f47_whatever_bytes_are_wrong_a_file_is_read_or_refused(
    tmp_path: Path, data: st.DataObject
) -> None:
    source = tmp_path / "whole.mp4"
    if not source.exists():
        write_odd(source)
    content = bytearray(source.read_bytes())
    for _ in range(data.draw(st.integers(1, 20))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "broken" / "a.mp4"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])

    result = scan_file(path)
    assert result.ok or result.reason
    try:
        frames = FrameCache(tmp_path / "c").get(path, (16, 16), fps=12.0).frames
    except DataError as error:
        assert "a.mp4" in str(error)
    else:
        assert 0 < len(frames) < 1000
