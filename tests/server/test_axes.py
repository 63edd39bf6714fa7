"""A world with axes over the wire: floats come in, wrong ones are refused, recordings keep them."""

import json
from pathlib import Path

import pytest
from fake_server import server_of
from fake_world import FakeWorld, read_back
from peer import Peer, play

from worldsim.axes import Axis
from worldsim.clients.sync_client import Client
from worldsim.data.recording import Recording
from worldsim.server import protocol as wire
from worldsim.server.media import decode_picture

AXES = [Axis(name="turn", low=0.0, high=5.0), Axis(name="grip", low=0.5, high=1.0)]


def test_the_hello_names_the_axes_and_floats_lead_to_frames() -> None:
    async def test(peer: Peer) -> None:
        assert peer.welcome is not None
        assert peer.welcome.axes == [wire.Axis(a.name, a.low, a.high) for a in AXES]
        await peer.started(clock="step")
        await peer.say(wire.Action(1, axes=(4.0, 0.5)))
        frame = await peer.frame()
        assert read_back(decode_picture(frame))[0] == 4 and frame.action_seq == 1

    play(test, FakeWorld(axes=AXES, bindings={}))


@pytest.mark.parametrize(
    ("action", "said"),
    [
        (wire.Action(1, 3), "an action here is 2 floats (turn, grip), got 0"),
        (wire.Action(1, axes=(1.0,)), "got 1"),
        (wire.Action(1, axes=(1.0, 0.4)), "grip must be within 0.5..1, got 0.4"),
        (wire.Action(1, axes=(1e300, 0.5)), "turn must be within 0..5"),
    ],
)
def test_what_is_not_within_the_axes_is_refused(action: wire.Action, said: str) -> None:
    async def test(peer: Peer) -> None:
        await peer.started(clock="step")
        await peer.say(action)
        error = await peer.error("bad_action")
        assert said in error.message and error.path == "$.axes"
        await peer.say(wire.Action(1, axes=(2.0, 0.5)))  # the session goes on
        assert read_back(decode_picture(await peer.frame()))[0] == 2

    play(test, FakeWorld(axes=AXES, bindings={}))


def test_a_world_of_codes_refuses_axes() -> None:
    async def test(peer: Peer) -> None:
        await peer.started(clock="step")
        await peer.say(wire.Action(1, axes=(1.0,)))
        assert "has codes, not axes" in (await peer.error("bad_action")).message

    play(test)


def test_the_python_client_sends_floats_and_the_server_records_them(tmp_path: Path) -> None:
    with (
        server_of(FakeWorld(axes=AXES, bindings={}), recordings=tmp_path) as server,
        Client.connect(server.url) as client,
    ):
        client.start(clock="step")
        client.record(True)
        for turn in (1.0, 3.0, 2.0):
            assert read_back(client.step([turn, 0.5]).frame)[0] == int(turn)
        client.record(False)

    (video,) = tmp_path.glob("*.mkv")
    header = json.loads(video.with_suffix(".jsonl").read_text().splitlines()[0])
    assert header["axes"] == ["turn", "grip"]
    assert Recording.open(video).axes[1:].tolist() == [[3.0, 0.5], [2.0, 0.5]]
