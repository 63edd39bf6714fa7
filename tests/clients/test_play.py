"""Scripts, sources, clips, and `worldsim play` itself."""

import io
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_games import local, read_clip
from fake_server import server_of
from fake_world import CONTROLS, FakeWorld, read_back
from PIL import Image

from worldsim.axes import Axis
from worldsim.cli import parse
from worldsim.clients import script
from worldsim.clients.clip import ClipWriter, save_picture
from worldsim.clients.headless import play_script
from worldsim.clients.meter import Meter
from worldsim.clients.remote import RemoteSource
from worldsim.clients.source import Beginning, Facts, Source
from worldsim.clients.sync_client import Client
from worldsim.commands.play import Play
from worldsim.errors import CheckpointError, DataError, WorldsimError

BINDINGS = FakeWorld().bindings


def picture_file(level: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 48), (level, level, level)).save(file, "PNG")
    return file.getvalue()


# Scripts


def test_a_script_is_read_and_repeats(tmp_path: Path) -> None:
    path = tmp_path / "keys.txt"
    path.write_text("# a game\nforward 2\n\nattack 1  # bang\n")

    plan = script.read_script(path, BINDINGS)

    assert script.length(plan) == 3
    assert list(script.actions(plan, 7)) == [1, 1, 5, 1, 1, 5, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("forward 3\njump 2\n", r"line 2: unknown control 'jump'; this world has noop, forward"),
        ("forward\n", "line 1: expected `CONTROL TICKS`, got 'forward'"),
        ("forward 0\n", "line 1: expected"),
        ("forward many\n", "line 1: expected"),
        ("", "no line `CONTROL TICKS`"),
    ],
)
def test_a_script_that_is_wrong_is_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "keys.txt"
    path.write_text(text)

    with pytest.raises(DataError, match=message) as error:
        script.read_script(path, BINDINGS)

    assert error.value.exit_code == 3


def test_a_script_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.txt: cannot be read"):
        script.read_script(tmp_path / "none.txt", BINDINGS)


AXES = (Axis(name="turn", low=-8.0, high=8.0), Axis(name="grip", low=0.25, high=1.0))


def test_a_script_for_a_world_with_axes(tmp_path: Path) -> None:
    path = tmp_path / "script.txt"
    path.write_text("turn=3.5 2\nturn=-8,grip=1 1  # both\n")

    assert script.read_script(path, {}, AXES) == [((3.5, 0.25), 2), ((-8.0, 1.0), 1)]
    assert [action for action, _ in script.built_in({}, 0, 10.0, AXES)] == [
        *((-8.0, 0.25), (8.0, 0.25)),
        *((0.0, 0.25), (0.0, 1.0)),
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("turn 2", "expected AXIS=VALUE"),
        ("lift=1 2", "unknown axis 'lift'; this world has turn, grip"),
        ("turn=9 2", "line 1: turn must be within -8..8, got 9"),
    ],
)
def test_a_wrong_axis_in_a_script_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "script.txt"
    path.write_text(line + "\n")

    with pytest.raises(DataError, match=said):
        script.read_script(path, {}, AXES)


def test_the_built_in_script_uses_what_the_world_has() -> None:
    assert {action for action, _ in script.built_in(BINDINGS, 8, 35.0)} == set(range(8))
    assert {action for action, _ in script.built_in({"jump": 3}, 4, 35.0)} == {0, 1, 2, 3}


# Sources


def remote_of(url: str, **beginning: Any) -> RemoteSource:
    return RemoteSource(Client.connect(url, timeout=5), Beginning(**beginning))


def check_source(source: Source, world: FakeWorld) -> None:
    """What window and headless play rely on, of either source."""
    assert source.facts.bindings == BINDINGS and source.facts.frame_size == (48, 64)
    assert read_back(source.single(3).frame) == (3, 1)
    source.settle()
    picture = source.single(4)
    assert read_back(picture.frame) == (4, 2) and (picture.action_ms or 0) > 0
    source.settle()
    source.reset()
    assert read_back(source.single(1).frame) == (1, 1)
    source.settle()

    source.pause(False)
    shown = []
    while len(shown) < 10:
        if (polled := source.poll(lambda: 2)) is not None:
            source.settle()
            shown.append(read_back(polled.frame))
    assert shown[-1][0] == 2 and shown[-1][1] > 5
    source.pause(True)
    made = len(world.calls)
    time.sleep(0.05)
    assert len(world.calls) <= made + 1
    assert source.missed >= 0
    source.close()


def test_a_world_in_this_process_is_a_source() -> None:
    world = FakeWorld()
    check_source(local(world), world)


def test_a_world_on_a_server_is_a_source() -> None:
    world = FakeWorld()
    with server_of(world) as server:
        check_source(remote_of(server.url), world)


def test_a_slow_local_world_counts_missed_ticks() -> None:
    source = local(FakeWorld(trunk_s=0.025))
    for _ in range(4):
        source.poll(lambda: 0)
        source.settle()
    assert source.missed >= 4


def test_a_game_begins_from_a_picture_or_a_snapshot_and_again_at_reset() -> None:
    source = local(picture=picture_file(90))
    assert source._state.start == 90  # type: ignore[attr-defined]

    source = local(snapshot=b"[[20], 0, 0]")
    for _ in range(2):
        assert read_back(source.single(1).frame) == (1, 21)
        source.reset()

    with server_of() as server:
        remote = remote_of(server.url, snapshot=b"[[20], 0, 0]")
        assert read_back(remote.single(1).frame) == (1, 21)
        remote.close()

    with pytest.raises(ValueError, match="readable picture"):
        local(picture=b"nothing")
    with pytest.raises(CheckpointError):
        local(snapshot=b"nothing")


# Clips and pictures


def test_headless_play_writes_a_clip_that_can_be_read(tmp_path: Path) -> None:
    first: list[float] = []
    clip = tmp_path / "clip.mp4"

    played = play_script(
        local(), [(1, 3), (5, 3)], frames=12, clip=clip, on_first=lambda: first.append(1)
    )

    frames, metadata, rate = read_clip(clip)
    assert [read_back(frame)[0] for frame in frames] == [1, 1, 1, 5, 5, 5] * 2
    assert rate == 100.0 and "AI-generated" in metadata["comment"] and first == [1]
    assert played.frames == 12 and "12 frames" in played.line()


def test_an_odd_frame_size_can_be_written(tmp_path: Path) -> None:
    facts = local(FakeWorld(frame_size=(49, 65))).facts
    with ClipWriter(tmp_path / "clip.mp4", facts) as writer:
        writer.add(np.zeros((49, 65, 3), np.uint8))
    assert read_clip(tmp_path / "clip.mp4")[0][0].shape == (50, 66, 3)


def test_a_clip_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(WorldsimError, match="cannot be written") as error:
        ClipWriter(tmp_path / "nowhere" / "clip.mp4", local().facts)
    assert error.value.exit_code == 3


def test_pictures_get_new_names_and_say_what_they_are(tmp_path: Path) -> None:
    frame = np.zeros((48, 64, 3), np.uint8)

    paths = [save_picture(frame, local().facts, tmp_path) for _ in range(2)]

    assert paths[0] != paths[1]
    with Image.open(paths[1]) as image:
        assert "AI-generated" in image.info["Comment"]


def test_the_meter_says_what_was_measured() -> None:
    meter = Meter()
    assert meter.line(0) == "missed 0"
    for tick in range(101):
        meter.shown(tick * 0.02 + (0.06 if tick > 98 else 0.0))

    assert meter.fps() == pytest.approx(100 / 2.06)
    assert 20 < (meter.p99_ms() or 0) < 80
    assert meter.line(7).startswith("48.5 frames/s") and meter.line(7).endswith("missed 7")
    assert meter.line(7, 4).endswith("missed 7   K 4")


# The command


def test_play_without_a_display_says_so_and_plays_by_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("worldsim.commands.play._why_no_window", lambda: "there is no display")
    monkeypatch.setattr(Play, "_source", lambda self: local())
    monkeypatch.setattr("worldsim.commands.play.SCRIPTED_SECONDS", 0.5)

    assert Play().run() == 0

    said = capsys.readouterr().err
    assert "there is no display; a script plays headless instead" in said
    assert "first frame after" in said
    assert len(read_clip(tmp_path / "worldsim-play.mp4")[0]) == 50


def test_play_on_a_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = tmp_path / "keys.txt"
    keys.write_text("turn_left 4\nattack 2\n")
    clip = tmp_path / "clip.mp4"
    with server_of() as server:
        assert Play(server=server.url, headless=True, keys=keys, out=clip).run() == 0
        assert Play(server=server.url, frames=5, out=tmp_path / "window.mp4").run() == 0

    assert [read_back(frame)[0] for frame in read_clip(clip)[0]] == [3, 3, 3, 3, 5, 5]
    assert len(read_clip(tmp_path / "window.mp4")[0]) == 5
    assert capsys.readouterr().err.count("first frame after") == 2


def test_play_with_a_wrong_picture_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.png: cannot be read"):
        Play(start=tmp_path / "none.png", headless=True).run()


@pytest.mark.parametrize(
    "wrong", [{"frames": 0}, {"seed": -1}, {"start": Path("a"), "load": Path("b")}]
)
def test_flags_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Play(**wrong)


def test_the_commands_import_nothing_heavy() -> None:
    program = (
        "import sys; import worldsim.commands.play, worldsim.commands.serve;"
        "print([m for m in ('torch', 'pygame', 'numpy', 'av', 'websockets') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_flags_of_play_are_parsed() -> None:
    flags = "play my-world --headless --frames 5 --k 4 --out clip.mp4 --server ws://localhost:1"
    command = parse(flags.split())
    expected = Play(
        world="my-world",
        headless=True,
        frames=5,
        k=4,
        out=Path("clip.mp4"),
        server="ws://localhost:1",
    )
    assert command == expected


def test_facts_name_every_control() -> None:
    facts: Facts = local().facts
    assert list(facts.bindings) == CONTROLS
