"""A folder of good and bad files: every one is named, and none stops the scan."""

import errno
import json
import os
import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from worldsim.cli import main
from worldsim.data.scan import ScanResult, scan
from worldsim.data.writer import VideoWriter
from worldsim.errors import DataError

FIXTURE = Path(__file__).parent.parent / "data" / "doom-hall" / "doom-hall-010200.mkv"


def write_video(
    path: Path, codec: str, *, size: tuple[int, int] = (24, 32), frames: int = 8
) -> None:
    """A clip of moving noise in the container that the suffix asks for."""
    dice = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(12))
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv444p" if size[0] % 2 or size[1] % 2 else "yuv420p"
        for _ in range(frames):
            picture = dice.integers(0, 256, (*size, 3)).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def write_audio(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("flac", rate=8000, layout="mono")
        chunk = av.AudioFrame.from_ndarray(
            np.zeros((1, 8000), dtype=np.int16), format="s16", layout="mono"
        )
        chunk.sample_rate, chunk.pts, chunk.time_base = 8000, 0, Fraction(1, 8000)
        container.mux(stream.encode(chunk))
        container.mux(stream.encode(None))


def by_name(results: list[ScanResult]) -> dict[str, ScanResult]:
    return {Path(result.path).name: result for result in results}


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    """A folder with one file of every kind."""
    folder = tmp_path / "videos"
    (folder / "below").mkdir(parents=True)
    write_video(folder / "a.mp4", "libx264")
    write_video(folder / "b.webm", "libvpx-vp9")
    write_video(folder / "c.avi", "mpeg4")
    write_video(folder / "odd.mkv", "libx264", size=(23, 31))
    write_video(folder / "below" / "\u4e16\u754c \u00fc.mp4", "libx264")
    write_video(folder / "one.mkv", "libx264", frames=1)
    write_audio(folder / "audio.mkv")
    shutil.copy(FIXTURE, folder / "rec.mkv")
    shutil.copy(FIXTURE.with_suffix(".jsonl"), folder / "rec.jsonl")
    (folder / "renamed.mp4").write_bytes((folder / "b.webm").read_bytes())
    (folder / "cut.mkv").write_bytes(FIXTURE.read_bytes()[:700_000])
    whole = (folder / "a.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.mp4").touch()
    (folder / "garbage.mp4").write_bytes(np.random.default_rng(1).bytes(5000))
    (folder / "text.avi").write_text("not a video\n")
    (folder / "notes.txt").write_text("hello\n")
    return folder


def test_every_file_is_named_and_the_usable_ones_are_found(zoo: Path) -> None:
    found = by_name(scan(zoo))

    usable = {name for name, result in found.items() if result.ok}
    assert usable == {
        "a.mp4", "b.webm", "c.avi", "odd.mkv", "\u4e16\u754c \u00fc.mp4", "rec.mkv", "renamed.mp4",
    }  # fmt: skip
    assert "rec.jsonl" not in found
    assert len(found) == 15


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("one.mkv", "one frame"),
        ("audio.mkv", "no video stream"),
        ("cut.mkv", "truncated"),
        ("cut.mp4", "unreadable, truncated"),
        ("empty.mp4", "empty file"),
        ("garbage.mp4", "unreadable"),
        ("text.avi", "unreadable"),
        ("notes.txt", "not a video by its name"),
    ],
)
def test_what_is_skipped_says_why(zoo: Path, name: str, reason: str) -> None:
    result = by_name(scan(zoo))[name]

    assert not result.ok
    assert result.reason is not None
    assert reason in result.reason


def test_figures_of_usable_files(zoo: Path) -> None:
    found = by_name(scan(zoo))

    recording, odd = found["rec.mkv"], found["odd.mkv"]
    assert (recording.frames, recording.size, recording.has_audio) == (591, (120, 160), True)
    assert recording.fps == pytest.approx(35.0, rel=1e-3)
    assert (odd.frames, odd.size, odd.has_audio) == (8, (23, 31), False)


def test_the_command_prints_one_json_line_and_writes_it(
    zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["data", "scan", str(zoo), "--json", str(tmp_path / "out" / "scan.json")])

    line = capsys.readouterr().out.splitlines()[-1]
    report = json.loads(line)
    assert code == 0
    assert (report["usable"], report["skipped"]) == (7, 8)
    assert json.loads((tmp_path / "out" / "scan.json").read_text()) == report


def test_a_report_that_cannot_be_written_is_printed_first(
    zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()

    code = main(["data", "scan", str(zoo), "--json", str(tmp_path / "file" / "scan.json")])

    said = capsys.readouterr()
    assert code == 4
    assert json.loads(said.out)["usable"] == 7
    assert "scan.json: cannot be written: " in said.err.splitlines()[-1]


def test_a_folder_without_videos_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "scan", str(tmp_path)]) == 3
    assert capsys.readouterr().err.endswith("no mp4, mkv, webm or avi file in this folder\n")


def test_the_exit_code_is_3_only_if_nothing_is_usable(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()

    assert main(["data", "scan", str(tmp_path)]) == 3


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a folder"):
        scan(tmp_path / "nowhere")


def test_an_abandoned_writer_leaves_nothing_that_counts(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "a.mkv", size=(24, 32), fps=30.0)

    writer.abandon()

    assert not any(result.ok for result in scan(tmp_path))


def test_links_are_followed_once_and_what_leads_nowhere_is_said(tmp_path: Path) -> None:
    elsewhere, root = tmp_path / "elsewhere", tmp_path / "root"
    elsewhere.mkdir()
    root.mkdir()
    write_video(elsewhere / "clip.mp4", "mpeg4")
    (root / "a").symlink_to(elsewhere)
    (root / "b").symlink_to(elsewhere)
    (elsewhere / "round").symlink_to(root)
    (root / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    os.mkfifo(root / "pipe.mkv")

    results = scan(root)

    assert [(str(Path(r.path).relative_to(root)), r.ok) for r in results] == [
        ("a/clip.mp4", True),
        ("gone.mp4", False),
        ("pipe.mkv", False),
    ]
    assert [r.reason for r in results[1:]] == ["a link that leads nowhere", "no regular file"]


def test_a_folder_that_cannot_be_read_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "closed").mkdir()
    write_video(tmp_path / "clip.mp4", "mpeg4")
    look = os.scandir

    def refuse(path: str) -> Any:
        if str(path).endswith("closed"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return look(path)

    monkeypatch.setattr(os, "scandir", refuse)

    clip, closed = scan(tmp_path)

    assert clip.ok
    assert (Path(closed.path).name, closed.reason) == ("closed", "Permission denied")
