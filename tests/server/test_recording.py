"""What a player records: the format of `worldsim record`, whole whatever happens on the way."""

import errno
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from fake_world import FakeWorld
from peer import Hall, Peer, meet, play

from worldsim.data.recording import Recording
from worldsim.data.scan import scan
from worldsim.data.video import read_frames, read_sound
from worldsim.data.writer import VideoWriter
from worldsim.provenance import SOURCE_TYPE
from worldsim.server import protocol as wire
from worldsim.server.engine import Shown
from worldsim.server.recorder import Recorder, Subject, marker, mend
from worldsim.training.footage import Footage, look, read_footage
from worldsim.training.labels import only_labelled, read_labels

SIZE = (48, 64)


def footage_of(folder: Path, cache: Path) -> Footage:
    """What training makes of a folder of recordings."""
    found = only_labelled(look(folder))
    return read_labels(read_footage(found, SIZE, found[0].fps or 0.0, cache, min_frames=2))


def subject(sample_rate: float | None = None) -> Subject:
    return Subject(
        world="fake",
        world_hash="0" * 64,
        game="g",
        seed=3,
        fps=20.0,
        size=SIZE,
        sample_rate=sample_rate,
        controls=["noop", "forward"],
    )


def shown(number: int, *, sound: bool = False) -> Shown:
    rng = np.random.default_rng(number)
    return Shown(
        seq=number,
        action=number % 2,
        frame=rng.integers(0, 255, (*SIZE, 3), np.uint8),
        sound=np.full(400, 0.25, np.float32) if sound else None,
        objects=None,
        is_alarm=False,
    )


def recorder(folder: Path, ended: Callable[[str], None] = print, **options: float) -> Recorder:
    return Recorder(folder, subject(**options), ended)


def test_a_recording_is_what_training_takes(tmp_path: Path) -> None:
    async def test(peer: Peer) -> None:
        await peer.started(clock="step", seed=4)
        await peer.act(0)
        await peer.say(wire.Record(on=True))
        on = await peer.expect(wire.Recording)
        for action in (1, 2, 3, 4):
            await peer.act(action)
        await peer.say(wire.Load(name="nothing"))
        await peer.error("not_found")
        await peer.started(clock="step", seed=5)
        for action in (5, 6, 7):
            await peer.act(action)
        await peer.say(wire.Record(on=False))
        off = await peer.expect(wire.Recording)
        assert on.on and not off.on and on.name == off.name is not None

    play(test, FakeWorld(has_extras=False), recordings=tmp_path / "rec")

    footage = footage_of(tmp_path / "rec", tmp_path / "cache")
    assert footage.controls == tuple(FakeWorld.actions) and footage.fps == 100.0
    assert [actions.tolist() for actions in footage.actions] == [[-1, 2, 3, 4], [-1, 6, 7]]
    assert [len(frames) for frames in footage.frames] == [4, 3]
    first = sorted((tmp_path / "rec").glob("*.mkv"))[0]
    assert abs(float(read_frames(first)[2][:, :24].mean()) - 3 * 30) < 8  # action 3
    with av.open(str(first)) as container:
        written = {key.lower(): value for key, value in container.metadata.items()}
    assert written["description"] == SOURCE_TYPE and "AI-generated" in written["comment"]


def test_sound_is_recorded_beside_the_picture(tmp_path: Path) -> None:
    recording = recorder(tmp_path, sample_rate=8000.0)
    for number in range(10):
        recording.add(shown(number, sound=True))
    recording.stop()

    (video,) = tmp_path.glob("*.mkv")
    sound, rate = read_sound(video)
    assert rate == 8000 == Recording.open(video).header.sample_rate
    assert len(sound) == 10 * 400
    np.testing.assert_allclose(sound, 0.25, atol=1e-3)
    assert len(read_frames(video)) == 10


def test_a_server_without_a_folder_does_not_record() -> None:
    async def test(peer: Peer) -> None:
        assert peer.welcome is not None and not peer.welcome.can_record
        await peer.say(wire.Record(on=True))
        await peer.error("not_supported")

    play(test)


def test_f27_a_recording_is_finished_when_the_server_stops(tmp_path: Path) -> None:
    async def test(peer: Peer) -> None:
        await peer.started(clock="step")
        await peer.say(wire.Record(on=True))
        await peer.expect(wire.Recording)
        for action in range(5):
            await peer.act(action)

    play(test, recordings=tmp_path)

    (result,) = scan(tmp_path)
    assert result.ok and result.frames == 5
    assert not list(tmp_path.glob(".*"))


def test_a_killed_server_leaves_a_recording_that_plays_and_trains(tmp_path: Path) -> None:
    program = (
        "import sys, time; sys.path.insert(0, sys.argv[1]); import test_recording as t;"
        "from pathlib import Path; r = t.recorder(Path(sys.argv[2]), sample_rate=8000.0);"
        "[r.add(t.shown(n, sound=True)) for n in range(60)];"
        "t.wait_for_lines(Path(sys.argv[2]), 61); print('ready', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(Path(__file__).parent), str(tmp_path)],
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGKILL)
    process.wait()

    (video,) = tmp_path.glob("*.mkv")
    frames = len(read_frames(video))
    assert 40 <= frames < 60
    assert mend(tmp_path) == [video]
    assert len(Recording.open(video).controls) == frames
    assert len(footage_of(tmp_path, tmp_path / ".cache").frames[0]) == frames
    assert not marker(video).exists()


def wait_for_lines(folder: Path, count: int) -> None:
    import time

    def lines() -> int:
        return sum(len(path.read_bytes().splitlines()) for path in folder.glob("*.jsonl"))

    while lines() < count:
        time.sleep(0.01)
    time.sleep(0.2)


def test_mending_leaves_alone_what_is_still_being_written(tmp_path: Path) -> None:
    recording = recorder(tmp_path)
    recording.add(shown(1))
    recording.add(shown(2))
    wait_for_lines(tmp_path, 3)

    assert mend(tmp_path) == []

    recording.stop()
    assert [result.frames for result in scan(tmp_path)] == [2]


def test_what_is_too_short_for_an_episode_is_not_kept(tmp_path: Path) -> None:
    recording = recorder(tmp_path)
    recording.add(shown(1))
    recording.stop()

    assert not list(tmp_path.iterdir())


def test_two_recordings_of_a_game_do_not_overwrite_each_other(tmp_path: Path) -> None:
    for _ in range(2):
        recording = recorder(tmp_path)
        recording.add(shown(1))
        recording.add(shown(2))
        recording.stop()

    assert len(list(tmp_path.glob("*.mkv"))) == 2


def test_f33_a_full_disk_ends_the_recording_and_leaves_it_playable(tmp_path: Path) -> None:
    reasons: list[str] = []
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    recording = recorder(tmp_path, reasons.append)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        for number in range(100):
            recording.add(shown(number))
        recording.stop()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert reasons == [os.strerror(errno.EFBIG)]
    (video,) = tmp_path.glob("*.mkv")
    frames = len(read_frames(video))
    assert frames >= 10 and len(Recording.open(video).controls) == frames


def test_f33_play_goes_on_when_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(VideoWriter, "write", no_space)

    async def test(peer: Peer) -> None:
        await peer.started()
        await peer.say(wire.Record(on=True))
        await peer.expect(wire.Recording)
        error = await peer.error("recording")
        assert "No space left" in error.message and not error.fatal
        numbers = [(await peer.frame()).number for _ in range(10)]
        assert numbers == sorted(set(numbers))

    play(test, recordings=tmp_path)


def test_f33_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    async def test(hall: Hall) -> None:
        peer = await hall.join()
        await peer.started()
        await peer.say(wire.Record(on=True))
        await peer.error("recording")
        await peer.frame()

    meet(test, recordings=tmp_path / "file")


def test_frames_that_the_disk_was_too_slow_for_end_an_episode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worldsim.server.recorder.WAITING", 4)
    write, gate = VideoWriter.write, threading.Event()

    def slow(self: VideoWriter, frame: object, sound: object) -> None:
        gate.wait(10)
        write(self, frame, sound)  # type: ignore[arg-type]

    monkeypatch.setattr(VideoWriter, "write", slow)
    recording = recorder(tmp_path)
    for number in range(20):
        recording.add(shown(number))
    gate.set()
    wait_for_lines(tmp_path, 5)  # what had waited is written
    for number in range(20, 23):
        recording.add(shown(number))
    recording.stop()

    lengths = [result.frames for result in scan(tmp_path)]
    assert len(lengths) == 2 and lengths[1] == 3 and sum(filter(None, lengths)) < 12
    for video in tmp_path.glob("*.mkv"):
        assert Recording.open(video).controls[0] == -1  # nothing in the file led to its first frame
