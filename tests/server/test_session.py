"""A session over a real socket: what a client may rely on."""

import asyncio
import io
from typing import Any

import numpy as np
import pytest
from fake_world import FakeState, FakeWorld, read_back
from peer import Peer, play
from PIL import Image
from websockets.exceptions import ConnectionClosed

from worldsim.server import protocol as wire
from worldsim.server.media import decode_objects, decode_picture, decode_sound


def test_frames_come_by_themselves_and_reflect_the_newest_action() -> None:
    async def test(peer: Peer) -> None:
        await peer.started(seed=3)
        first = await peer.frame()
        assert first.flags == wire.AI_GENERATED | wire.RESET
        assert (first.number, first.action_seq, first.width, first.height) == (0, 0, 64, 48)
        assert read_back(decode_picture(first)) == (0, 1)

        await peer.say(wire.Action(1, 3), wire.Action(2, 5))
        while (frame := await peer.frame()).action_seq < 2:
            assert read_back(decode_picture(frame))[0] in (0, 3)
        assert read_back(decode_picture(frame))[0] == 5
        assert frame.head_ms == 1.0 and frame.encode_ms > 0 and frame.due_us > first.due_us

    world = play(test)
    assert len(world.threads) == 1  # one thread owns the model


def test_the_frame_leaves_before_the_trunk_runs() -> None:
    async def test(peer: Peer) -> None:
        world.trunk_s = 0.5
        await peer.started(clock="step")
        await peer.say(wire.Action(1, 0))
        await peer.frame()
        assert [name for name, _ in world.calls] in (["predict"], ["predict", "advance"])
        elapsed = asyncio.get_running_loop().time() - world.calls[0][1]
        assert elapsed < 0.25  # of the half second that the trunk takes

    world = FakeWorld()
    play(test, world)


def test_sound_objects_and_alarm_travel_with_the_frame() -> None:
    async def test(peer: Peer) -> None:
        await peer.started()
        frame = await peer.frame()
        assert frame.flags & wire.ALARM
        np.testing.assert_allclose(decode_sound(frame), np.full(20, 0.5), atol=1e-4)
        np.testing.assert_array_equal(decode_objects(frame), [[0, 1, 2], [3, 4, 5]])

    play(test, FakeWorld(has_extras=True))


def test_f20_a_client_that_never_acks_gets_a_window_and_then_the_newest_frame() -> None:
    async def test(peer: Peer) -> None:
        await peer.started()
        numbers = [(await peer.frame(ack=False)).number for _ in range(3)]
        assert numbers == [0, 1, 2]
        while sum(name == "advance" for name, _ in world.calls) < 30:
            await asyncio.sleep(0.01)
        await peer.say(wire.Ack(frame=2**31), wire.Ack(frame=2))
        newest = await peer.frame(ack=False)
        assert newest.number >= 29

    world = FakeWorld()
    play(test, world)


def test_f21_a_slow_reader_never_falls_behind_by_more_than_the_window() -> None:
    async def test(peer: Peer) -> None:
        await peer.started()
        for _ in range(12):
            frame = await peer.frame()
            made = sum(name == "predict" for name, _ in world.calls)
            assert made - frame.number <= 25  # ~5 periods a read, at most 3 frames on the way
            await asyncio.sleep(0.05)

    world = FakeWorld()
    play(test, world)


def test_f20_a_client_that_is_stuck_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worldsim.server.scheduler.STALL", 0.2)

    async def test(peer: Peer) -> None:
        await peer.started()
        with pytest.raises(ConnectionClosed):
            while True:
                await peer.frame(ack=False)
        assert peer.socket.close_code == 4008

    play(test)


def test_f30_a_slow_model_drops_ticks_and_says_so() -> None:
    async def test(peer: Peer) -> None:
        await peer.started()
        frames = [await peer.frame() for _ in range(8)]
        spent = (frames[-1].due_us - frames[0].due_us) / 1e6
        periods = round(spent * world.fps)
        assert frames[-1].missed > 0 and frames[-1].flags & wire.DEGRADED
        assert periods == 7 + frames[-1].missed  # every period is ticked or missed
        assert frames[-1].wait_ms < 60  # a queue would have built up 105 ms by now

    world = FakeWorld(predict_s=0.025)
    play(test, world)


def test_the_step_clock_makes_one_tick_per_action() -> None:
    async def test(peer: Peer) -> None:
        await peer.started(clock="step")
        for seq in range(1, 20):
            await peer.say(wire.Action(seq, seq % 8))
            frame = await peer.frame()
            assert frame.action_seq == seq and frame.missed == 0
            assert read_back(decode_picture(frame)) == (seq % 8, seq)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(peer.frame(), 0.1)

    play(test)


def test_a_pause_keeps_the_state() -> None:
    async def test(peer: Peer) -> None:
        await peer.started()
        await peer.frame()
        await peer.started(keep=True, clock="step")
        made = sum(name == "predict" for name, _ in world.calls)
        await peer.started(keep=True, clock="open")
        frame = await peer.frame()
        assert not frame.flags & wire.RESET
        assert read_back(decode_picture(frame))[1] == made + 1

    world = FakeWorld()
    play(test, world)


def test_a_saved_state_is_returned_to() -> None:
    async def test(peer: Peer) -> None:
        await peer.started(clock="step")
        for seq in (1, 2):
            await peer.say(wire.Action(seq, 1))
            await peer.frame()
        await peer.say(wire.Save(name="here"))
        assert await peer.hear() == wire.Saved(name="here", frame=1)
        await peer.say(wire.Action(3, 1))
        await peer.frame()
        await peer.say(wire.Load(name="here"))
        assert await peer.hear() == wire.Loaded(frame=3)
        await peer.say(wire.Action(4, 1))
        assert read_back(decode_picture(await peer.frame())) == (1, 3)

        await peer.say(wire.Load(name="elsewhere"))
        assert "elsewhere" in (await peer.error("not_found")).message

    play(test)


async def send_upload(peer: Peer, number: int, kind: Any, data: bytes) -> None:
    await peer.say(wire.Upload(id=number, kind=kind, size=len(data)))
    for at in range(0, len(data), 1000):
        await peer.socket.send(data[at : at + 1000])
    assert await peer.hear() == wire.Uploaded(id=number, size=len(data))


def test_a_world_starts_from_an_uploaded_picture() -> None:
    async def test(peer: Peer) -> None:
        file = io.BytesIO()
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)).save(
            file, "PNG"
        )
        await send_upload(peer, 5, "picture", file.getvalue())
        await peer.started(upload=5)
        first = await peer.frame()
        assert first.flags & wire.RESET

        await send_upload(peer, 6, "picture", b"no picture at all")
        await peer.say(wire.Start(upload=6))
        await peer.error("bad_picture")
        await peer.say(wire.Load(upload=6))
        await peer.error("bad_upload")

    play(test)


def test_a_world_goes_on_from_an_uploaded_snapshot() -> None:
    async def test(peer: Peer) -> None:
        await peer.started(clock="step")
        await send_upload(peer, 1, "snapshot", b"[[41], 0, 0]")
        await peer.say(wire.Load(upload=1))
        assert isinstance(await peer.hear(), wire.Loaded)
        await peer.say(wire.Action(1, 2))
        assert read_back(decode_picture(await peer.frame())) == (2, 42)

        for data in (b"truncated [", b"[[1, 2], 0, 0]"):
            await send_upload(peer, 2, "snapshot", data)
            await peer.say(wire.Load(upload=2))
            await peer.error("bad_snapshot")

        await send_upload(peer, 3, "snapshot", b"[[7], 0, 0]")
        await peer.started(clock="step", upload=3)
        await peer.say(wire.Action(2, 2))
        frame = await peer.frame()
        assert frame.flags & wire.RESET and read_back(decode_picture(frame)) == (2, 8)

    play(test)


def test_a_snapshot_that_does_not_fit_the_model_never_reaches_it() -> None:
    class Other(FakeWorld):
        def restore(self, data: bytes) -> FakeState:
            return FakeState(*(np.zeros((1, 2), np.int64) for _ in range(3)))

    async def test(peer: Peer) -> None:
        await send_upload(peer, 1, "snapshot", b"anything")
        await peer.say(wire.Load(upload=1))
        assert "does not fit this world" in (await peer.error("bad_snapshot")).message
        await peer.say(wire.Save())
        await peer.error("not_started")

    play(test, Other())


def test_uploads_end_where_they_said_and_only_so_many_saves_are_kept() -> None:
    async def test(peer: Peer) -> None:
        await peer.say(wire.Upload(id=1, kind="picture", size=3))
        await peer.socket.send(b"four")
        await peer.error("bad_upload")
        await peer.started(clock="step")
        for number in range(8):
            await peer.say(wire.Save(name=str(number)))
            await peer.expect(wire.Saved)
        await peer.say(wire.Save(name="one more"))
        await peer.error("too_many")
        await peer.say(wire.Save(name="3"))
        await peer.expect(wire.Saved)

    play(test)
