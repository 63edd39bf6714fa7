"""Side files: they match their video, and what is wrong with one is said by line."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from worldsim.data.recording import Recording
from worldsim.data.video import read_frames, read_sound
from worldsim.errors import DataError
from worldsim.games.table import CONTROLS, SAMPLES_PER_TIC

FIXTURE = Path(__file__).parent.parent / "data" / "doom-hall" / "doom-hall-010200.mkv"


def test_side_file_video_and_sound_have_the_same_length() -> None:
    recording = Recording.open(FIXTURE)

    sound, rate = read_sound(FIXTURE)
    frames = read_frames(FIXTURE)

    assert frames.shape == (len(recording.controls), 120, 160, 3)
    assert rate == recording.header.sample_rate
    assert len(sound) == SAMPLES_PER_TIC * len(frames)


def test_only_the_first_frame_has_no_control_and_only_the_last_is_a_death() -> None:
    recording = Recording.open(FIXTURE)

    assert recording.header.controls == CONTROLS
    assert recording.header.fps == 35.0
    assert np.flatnonzero(recording.controls == -1).tolist() == [0]
    assert np.flatnonzero(recording.resets).tolist() == [0]
    assert np.flatnonzero(recording.deaths).tolist() == [len(recording.deaths) - 1]
    assert asdict(recording.header)["game"] == "doom-hall"


def test_objects_are_read_on_request() -> None:
    recording = Recording.open(FIXTURE)

    objects = recording.objects()

    assert len(objects) == len(recording.controls)
    assert {"DoomImp", "Demon"} <= {thing.name for things in objects for thing in things}
    assert all(thing.in_view == (thing.box is not None) for things in objects for thing in things)


def test_axes_are_floats_and_a_header_of_ones_own_needs_little(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"format":"worldsim-recording","format_version":1,"fps":30,"axes":["turn","grip"]}\n'
        '{}\n{"axes":[3.5,0]}\n{"axes":[-2,1]}\n'
    )

    recording = Recording.open(tmp_path / "a.mkv")

    assert recording.header.axes == ("turn", "grip") and recording.header.controls == ()
    assert np.isnan(recording.axes[0]).all()
    assert recording.axes[1:].tolist() == [[3.5, 0.0], [-2.0, 1.0]]
    assert recording.controls.tolist() == [-1, -1, -1]


def test_a_line_with_too_few_axes_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"format":"worldsim-recording","format_version":1,"fps":30,"axes":["turn","grip"]}\n'
        '{}\n{"axes":[3.5]}\n'
    )

    with pytest.raises(DataError, match="line 3: axes must be 2 floats, got 1"):
        Recording.open(tmp_path / "a.mkv")


def broken(folder: Path, *lines: str) -> Path:
    """A side file with these lines; the header of the fixture if a line is 'header'."""
    header = json.dumps(asdict(Recording.open(FIXTURE).header))
    text = "\n".join(header if line == "header" else line for line in lines)
    (folder / "a.jsonl").write_text(text + "\n")
    return folder / "a.mkv"


GOOD = '{"control":1,"reset":false,"death":false,"pose":[0,0,0],"objects":[]}'


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("{}",), r"a\.jsonl, line 1: not the header"),
        (("not json",), r"a\.jsonl, line 1: not the header"),
        (("header", GOOD, "{"), r"a\.jsonl, line 3"),
        (("header", GOOD.replace("1", '"jump"')), r"a\.jsonl, line 2"),
        (("header", GOOD.replace("1", "9")), r"line 2: control must be < 8, got 9"),
        (("header", GOOD[:20]), r"a\.jsonl, line 2"),
    ],
)
def test_a_broken_side_file_is_named_with_its_line(
    tmp_path: Path, lines: tuple[str, ...], message: str
) -> None:
    video = broken(tmp_path, *lines)

    with pytest.raises(DataError, match=message):
        Recording.open(video)


def test_a_side_file_of_another_format_is_refused(tmp_path: Path) -> None:
    header = {**asdict(Recording.open(FIXTURE).header), "format_version": 2}
    (tmp_path / "a.jsonl").write_text(json.dumps(header) + "\n")

    with pytest.raises(DataError, match="worldsim-recording 2 is not worldsim-recording 1"):
        Recording.open(tmp_path / "a.mkv")


def test_a_missing_side_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.jsonl: cannot be read"):
        Recording.open(tmp_path / "a.mkv")
