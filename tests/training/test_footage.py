"""Any folder of recordings becomes footage: one size, one rate, what is broken is left out."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from odd import write_odd

from worldsim.data import cache
from worldsim.data.recording import Recording
from worldsim.data.scan import ScanResult
from worldsim.errors import DataError
from worldsim.training.footage import Footage, look, pick_rate, pick_size, read_footage
from worldsim.training.labels import only_labelled, read_labels

FIXTURE = Path(__file__).parents[1] / "data" / "doom-hall" / "doom-hall-010200.mkv"
SIZE = (16, 32)


def result(
    *, fps: float = 30.0, size: tuple[int, int] = (90, 120), frames: int = 100
) -> ScanResult:
    return ScanResult(path="a.mp4", ok=True, frames=frames, fps=fps, size=size)


@pytest.mark.parametrize(
    ("size", "tokens", "picked"),
    [
        ((480, 640), 48, (96, 128)),
        ((120, 160), 12, (48, 64)),
        ((1080, 1920), 48, (80, 144)),
        ((1920, 1080), 48, (144, 80)),
        ((500, 500), 48, (112, 112)),
        ((23, 31), 12, (48, 64)),
    ],
)
def test_the_size_has_the_shape_of_the_footage_and_the_tokens_of_the_preset(
    size: tuple[int, int], tokens: int, picked: tuple[int, int]
) -> None:
    assert pick_size([result(size=size)], tokens) == picked


@pytest.mark.parametrize(
    ("rates", "picked"),
    [
        ([35.0], 35.0),
        ([35.001], 35.0),
        ([29.97], 29.97),
        ([60.0], 30.0),
        ([120.0], 30.0),
        ([10.0, 25.0, 25.0], 25.0),
    ],
)
def test_the_rate_is_what_most_footage_has_and_what_a_laptop_can_play(
    rates: list[float], picked: float
) -> None:
    assert pick_rate([result(fps=fps, frames=int(100 * fps)) for fps in rates]) == picked


def test_the_longest_footage_decides_and_not_the_number_of_files() -> None:
    short = [result(size=(100, 100), frames=10) for _ in range(5)]

    assert pick_size([*short, result(frames=1000)], 12) == (48, 64)


def test_of_many_shapes_the_middle_one_is_picked() -> None:
    sizes = [(144, 176), (720, 1280), (272, 640)]

    assert pick_size([result(size=size) for size in sizes], 48) == pick_size(
        [result(size=(720, 1280))], 48
    )


def with_side(path: Path, *, fps: float = 12.0, lines: int = 40, header: bool = True) -> Path:
    """Writes the side file of a video of `lines` frames: controls 0, 1, 2, 0, .."""
    first = json.loads(FIXTURE.with_suffix(".jsonl").open().readline())
    first.update(fps=fps, controls=["noop", "left", "right"])
    rows = [
        {"control": i % 3 if i else None, "reset": False, "death": False, "pose": [0, 0, 0],
         "objects": []}
        for i in range(lines)
    ]  # fmt: skip
    text = [json.dumps(row) for row in ([first] if header else []) + rows]
    path.with_suffix(".jsonl").write_text("\n".join(text) + "\n")
    return path


def footage_of(folder: Path, fps: float, *, min_frames: int = 2) -> Footage:
    found = only_labelled(look(folder))
    return read_labels(read_footage(found, SIZE, fps, folder / ".cache", min_frames=min_frames))


def test_f47_ten_broken_files_and_a_good_one_give_the_good_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    write_odd(with_side(videos / "good.mkv"), frames=40)
    whole = (videos / "good.mkv").read_bytes()
    write_odd(videos / "one.mkv", frames=1)
    write_odd(videos / "no-side.mkv", frames=40)
    write_odd(with_side(videos / "short-side.mkv", lines=30), frames=40)
    write_odd(with_side(videos / "no-header.mkv", header=False), frames=40)
    (videos / "empty.mp4").touch()
    (videos / "garbage.mp4").write_bytes(bytes(range(256)) * 9)
    (videos / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    (videos / "text.avi").write_text("no\n")
    (videos / "notes.txt").write_text("no\n")
    with_side(videos / "picture.mov").write_bytes(b"\x89PNG\r\n")

    footage = footage_of(videos, 12.0)

    said = capsys.readouterr().err
    assert [path.name for path in footage.paths] == ["good.mkv"]
    assert said.count("skipped: ") == 10
    for name in ("one", "no-side", "short-side", "no-header", "empty", "garbage", "cut", "text"):
        assert f"{name}." in said


def test_f47_only_if_nothing_is_usable_it_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(DataError, match="no usable video"):
        look(tmp_path)

    write_odd(tmp_path / "a.mkv")
    with pytest.raises(DataError, match="no side files with controls"):
        only_labelled(look(tmp_path))


def test_f47_too_little_footage_says_how_much_is_needed(tmp_path: Path) -> None:
    write_odd(with_side(tmp_path / "a.mkv"), frames=40)

    with pytest.raises(
        DataError, match="the longest video has 20 frames at 6 Hz, training needs 26"
    ):
        footage_of(tmp_path, 6.0, min_frames=26)


def test_videos_of_other_sizes_and_rates_come_together_with_the_controls_that_led_to_each_frame(
    tmp_path: Path,
) -> None:
    write_odd(with_side(tmp_path / "a.mkv", fps=12.0), frames=40, size=(24, 32))
    write_odd(with_side(tmp_path / "b.mkv", fps=24.0), frames=40, size=(46, 30), rate=24)
    write_odd(with_side(tmp_path / "c.mkv", fps=6.0), frames=40, size=(48, 64), rate=6)

    footage = footage_of(tmp_path, 12.0)

    same, half, double = footage.source
    assert same.tolist() == list(range(40))
    assert half.tolist()[:5] == [0, 2, 4, 6, 8]
    assert double.tolist()[:6] == [0, 0, 1, 1, 2, 2]
    assert {frames.shape[1:] for frames in footage.frames} == {(*SIZE, 3)}
    for actions, source in zip(footage.actions, footage.source, strict=True):
        assert actions.tolist() == [-1 if s == 0 else s % 3 for s in source]


def test_a_recording_at_its_own_rate_keeps_its_controls(tmp_path: Path) -> None:
    for path in FIXTURE.parent.glob(f"{FIXTURE.stem}.*"):
        shutil.copy(path, tmp_path)

    footage = footage_of(tmp_path, 35.0)

    assert (footage.actions[0] == Recording.open(FIXTURE).controls).all()


def test_f48_a_file_that_vanishes_or_changes_after_the_scan_is_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b", "c"):
        write_odd(with_side(tmp_path / f"{name}.mkv"), frames=40, size=(24, 32 + ord(name) % 2 * 2))
    found = look(tmp_path)
    (tmp_path / "a.mkv").unlink()
    (tmp_path / "b.mkv").write_bytes(b"garbage")

    footage = read_footage(found, SIZE, 12.0, tmp_path / ".cache", min_frames=2)

    assert [path.name for path in footage.paths] == ["c.mkv"]
    assert capsys.readouterr().err.count("skipped: ") == 2


def test_f48_other_content_is_other_footage(tmp_path: Path) -> None:
    write_odd(with_side(tmp_path / "a.mkv"), frames=40)
    before = footage_of(tmp_path, 12.0)

    write_odd(tmp_path / "a.mkv", frames=40, size=(48, 64))
    after = footage_of(tmp_path, 12.0)

    assert after.fingerprint != before.fingerprint
    assert footage_of(tmp_path, 12.0).fingerprint == after.fingerprint


def test_f43_a_pickle_in_the_frame_cache_is_refused(tmp_path: Path) -> None:
    write_odd(with_side(tmp_path / "a.mkv"), frames=40)
    name = footage_of(tmp_path, 12.0).names[0]
    np.save(tmp_path / ".cache" / f"{name}.npy", np.array([Path()]), allow_pickle=True)

    with pytest.raises(DataError, match="damaged cache file"):
        cache.FrameCache(tmp_path / ".cache").get(tmp_path / "a.mkv", SIZE, 12.0)
