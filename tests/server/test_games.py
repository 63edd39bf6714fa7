"""What players do with a world beyond playing: undo, keep, copy, share, and come back to it."""

import asyncio
import json

import pytest
from fake_world import FakeWorld, read_back
from peer import Hall, Peer, meet, play, until
from websockets.exceptions import InvalidStatus

from worldsim.server import lobby
from worldsim.server import protocol as wire
from worldsim.server.media import decode_objects, decode_picture
from worldsim.server.metrics import Metrics
from worldsim.server.outlet import Goodbye, Outlet


def tick_of(frame: wire.Frame) -> int:
    return read_back(decode_picture(frame))[1]


def test_rewinding_goes_back_at_least_as_far_as_asked() -> None:
    async def test(peer: Peer) -> None:
        assert peer.welcome is not None and peer.welcome.rewind == 60.0
        await peer.started(clock="step")
        for _ in range(60):
            await peer.act(1)
        await peer.say(wire.Rewind(ticks=20))
        undone = await peer.expect(wire.Rewound)
        assert 20 <= undone.ticks < 20 + 25  # a state is kept every quarter second
        assert undone.frame == 60
        frame = await peer.act(2)
        assert (frame.number, tick_of(frame)) == (60, 60 - undone.ticks + 1)

        await peer.say(wire.Rewind(ticks=1000))
        error = await peer.error("not_found")
        assert f"only the last {60 - undone.ticks + 1} ticks" in error.message

    play(test)


def test_a_save_is_downloaded_in_chunks_between_frames() -> None:
    async def test(peer: Peer) -> None:
        await peer.started()
        await peer.frame()
        await peer.say(wire.Save(name="here", download=True))
        data, frames, saved = bytearray(), 0, None
        while saved is None or len(data) < saved.size:
            message = await peer.socket.recv()
            if isinstance(message, str):
                reply = wire.parse_reply(message)
                assert isinstance(reply, wire.Saved)
                saved = reply
                continue
            item = wire.decode_binary(message)
            if isinstance(item, wire.Chunk):
                assert saved is not None and item.id == saved.download
                assert item.offset == len(data)
                data += item.data
            else:
                frames += 1
                await peer.say(wire.Ack(frame=item.number))
        assert frames >= 1
        assert json.loads(data)[0][0] >= 1

    class Large(FakeWorld):
        def snapshot(self, state: object) -> bytes:
            return super().snapshot(state) + 500_000 * b" "  # type: ignore[arg-type]

    play(test, Large())


def test_a_start_can_begin_from_a_save() -> None:
    async def test(peer: Peer) -> None:
        await peer.started(clock="step")
        for _ in range(3):
            await peer.act(1)
        await peer.say(wire.Save(name="three"))
        await peer.expect(wire.Saved)
        await peer.act(1)
        await peer.started(clock="step", save="three")
        frame = await peer.act(1)
        assert frame.flags & wire.RESET and tick_of(frame) == 4

    play(test)


def test_settings_change_what_is_sent() -> None:
    async def test(peer: Peer) -> None:
        await peer.started(quality=95)
        fine = await peer.frame()
        assert fine.sound and len(decode_objects(fine)) == 2
        await peer.started(keep=True, quality=10, sound=False, objects=False)
        await peer.frame()
        coarse = await peer.frame()
        assert not coarse.sound and not coarse.objects and coarse.num_slots == 0
        assert len(coarse.picture) < len(fine.picture)
        await peer.started(keep=True)
        assert not (await peer.frame()).sound  # what is left out stays as it is

    play(test, FakeWorld(has_extras=True))


def test_a_fork_is_a_second_game_that_goes_its_own_way() -> None:
    async def test(hall: Hall) -> None:
        first = await hall.join()
        await first.started(clock="step")
        for _ in range(4):
            await first.act(1)
        await first.say(wire.Fork())
        forked = await first.expect(wire.Forked)
        assert forked.seconds == 60.0
        await first.act(1)

        second = await hall.resume(forked.resume)
        assert second.welcome is not None and first.welcome is not None
        assert second.welcome.game != first.welcome.game
        assert tick_of(await second.act(3)) == 5
        assert tick_of(await first.act(1)) == 6

    meet(test)


def test_f26_a_lost_connection_is_resumed_in_the_same_state() -> None:
    async def test(hall: Hall) -> None:
        lost = await hall.join()
        await lost.started(seed=9, clock="step")
        for _ in range(4):
            last = await lost.act(1)
        await lost.say(wire.Save(name="here"))
        await lost.expect(wire.Saved)
        lost.socket.transport.abort()

        new = await hall.join()
        assert new.welcome is not None and lost.welcome is not None
        assert new.welcome.game != lost.welcome.game  # without the token it is a new game
        assert lost.welcome.resume is not None
        await new.say(wire.Hello(protocol=1, resume=lost.welcome.resume))
        welcome = await new.expect(wire.Welcome)
        assert (welcome.game, welcome.role) == (lost.welcome.game, "driver")
        frame = await new.act(2)
        assert (frame.number, tick_of(frame)) == (last.number + 1, 5)
        await new.say(wire.Load(name="here"))
        await new.expect(wire.Loaded)
        assert tick_of(await new.act(2)) == 5

    meet(test)


def test_f26_a_token_takes_the_game_over_from_a_connection_that_still_seems_alive() -> None:
    async def test(hall: Hall) -> None:
        old = await hall.join()
        await old.started()
        await old.frame()
        assert old.welcome is not None and old.welcome.resume is not None
        new = await hall.resume(old.welcome.resume)
        assert await old.closed() == 4002
        assert tick_of(await new.frame()) > 1

    meet(test)


def test_f26_a_game_that_nobody_comes_back_to_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lobby, "KEPT", 0.05)

    async def test(hall: Hall) -> None:
        lost = await hall.join()
        assert lost.welcome is not None and lost.welcome.resume is not None
        viewer = await hall.join(f"/watch/{lost.welcome.game}")
        await lost.started()
        await lost.frame()
        lost.socket.transport.abort()
        assert await viewer.closed() == 1000
        other = await hall.join()
        await other.say(wire.Hello(protocol=1, resume=lost.welcome.resume))
        await other.error("not_found")

    meet(test)


async def driver_and_viewer(hall: Hall) -> tuple[Peer, Peer]:
    driver = await hall.join()
    await driver.started()
    await driver.frame()
    assert driver.welcome is not None
    viewer = await hall.join(f"/watch/{driver.welcome.game}")
    assert viewer.welcome is not None
    assert (viewer.welcome.role, viewer.welcome.resume) == ("viewer", None)
    return driver, viewer


def test_viewers_see_the_same_frames_each_at_its_own_pace() -> None:
    async def test(hall: Hall) -> None:
        driver, fast = await driver_and_viewer(hall)
        assert driver.welcome is not None
        slow = await hall.join(f"/watch/{driver.welcome.game}")
        await driver.say(wire.Action(1, 6))
        while (seen := await fast.frame()).action_seq < 1:
            await driver.frame()
        assert read_back(decode_picture(seen))[0] == 6
        stuck = [(await slow.frame(ack=False)).number for _ in range(3)]
        for _ in range(20):
            await fast.frame()
            newest = (await driver.frame()).number
        await slow.say(wire.Ack(frame=stuck[-1]))
        assert (await slow.frame()).number >= newest - 3

    meet(test)


@pytest.mark.parametrize(
    "message",
    [
        wire.Action(1, 2),
        wire.Start(),
        wire.Save(),
        wire.Load(),
        wire.Rewind(ticks=1),
        wire.Fork(),
        wire.Record(on=True),
        wire.Upload(id=1, kind="picture", size=10),
    ],
    ids=lambda message: type(message).__name__,
)
def test_f14_a_viewer_may_look_but_not_touch(message: wire.Request) -> None:
    async def test(hall: Hall) -> None:
        driver, viewer = await driver_and_viewer(hall)
        await viewer.say(message)
        await viewer.error("forbidden")
        for _ in range(3):
            frame = await driver.frame()
            assert (frame.action_seq, frame.flags & wire.RESET) == (0, 0)
        await viewer.frame()

    meet(test)


def test_a_viewer_chooses_the_quality_of_its_own_picture() -> None:
    async def test(hall: Hall) -> None:
        driver, viewer = await driver_and_viewer(hall)
        await viewer.say(wire.Start(keep=True, quality=10, sound=False))
        while (frame := await viewer.frame()).sound:
            pass
        assert (await driver.frame()).sound
        frame = await viewer.frame()  # the one before may have been encoded when it was asked for
        assert len(frame.picture) < len((await driver.frame()).picture)

    meet(test, FakeWorld(has_extras=True))


def test_the_controls_are_handed_over() -> None:
    async def test(hall: Hall) -> None:
        driver, viewer = await driver_and_viewer(hall)
        assert driver.welcome is not None
        old_token = driver.welcome.resume
        await viewer.say(wire.Hello(protocol=1, role="driver"))
        assert (await viewer.expect(wire.Welcome)).role == "viewer"  # asked, not yet given
        asked = await driver.expect(wire.Welcome)
        assert (asked.viewers, asked.asking) == (1, 1)
        await driver.say(wire.Hello(protocol=1, role="viewer"))
        gained = await viewer.expect(wire.Welcome)
        assert gained.role == "driver" and gained.resume not in (None, old_token)
        assert (await driver.expect(wire.Welcome)).role == "viewer"
        await viewer.say(wire.Action(1, 5))
        while (frame := await driver.frame()).action_seq < 1:
            await viewer.frame()
        assert read_back(decode_picture(frame))[0] == 5
        await driver.say(wire.Action(2, 1))
        await driver.error("forbidden")

    meet(test)


def test_who_asked_drives_when_the_driver_is_lost() -> None:
    async def test(hall: Hall) -> None:
        driver, viewer = await driver_and_viewer(hall)
        await viewer.say(wire.Hello(protocol=1, role="driver"))
        await viewer.expect(wire.Welcome)
        driver.socket.transport.abort()
        assert (await viewer.expect(wire.Welcome)).role == "driver"
        await viewer.frame()

    meet(test)


def test_free_controls_go_to_the_first_who_asks_and_the_world_waits_for_that() -> None:
    async def test(hall: Hall) -> None:
        driver, viewer = await driver_and_viewer(hall)
        await driver.say(wire.Hello(protocol=1, role="viewer"))
        assert (await driver.expect(wire.Welcome)).role == "viewer"
        await asyncio.sleep(0.05)
        made = sum(name == "predict" for name, _ in world.calls)
        await asyncio.sleep(0.05)
        assert sum(name == "predict" for name, _ in world.calls) == made
        await viewer.say(wire.Hello(protocol=1, role="driver"))
        assert (await viewer.expect(wire.Welcome)).role == "driver"
        await viewer.frame()

    world = FakeWorld()
    meet(test, world)


def test_one_fork_waits_per_game_a_newer_one_takes_its_place() -> None:
    async def test(hall: Hall) -> None:
        first = await hall.join()
        await first.started(clock="step")
        tokens = []
        for _ in range(2):
            await first.say(wire.Fork())
            tokens.append((await first.expect(wire.Forked)).resume)
            await first.act(1)
        assert tick_of(await (await hall.resume(tokens[1])).act(1)) == 2
        late = await hall.join()
        await late.say(wire.Hello(protocol=1, resume=tokens[0]))
        await late.error("not_found")

    meet(test)


def test_a_viewer_with_the_token_drives() -> None:
    async def test(hall: Hall) -> None:
        driver, viewer = await driver_and_viewer(hall)
        assert driver.welcome is not None and driver.welcome.resume is not None
        await viewer.say(wire.Hello(protocol=1, resume=driver.welcome.resume))
        welcome = await viewer.expect(wire.Welcome)
        assert (welcome.role, welcome.viewers) == ("driver", 0)
        assert await driver.closed() == 4002
        await viewer.say(wire.Hello(protocol=1, resume=welcome.resume))  # once more: no change
        assert (await viewer.expect(wire.Welcome)).role == "driver"
        await viewer.frame()

    meet(test)


@pytest.mark.parametrize("role", ["driver", "viewer"])
def test_asking_for_what_one_has_is_answered(role: wire.Role) -> None:
    async def test(hall: Hall) -> None:
        driver, viewer = await driver_and_viewer(hall)
        peer = driver if role == "driver" else viewer
        await peer.say(wire.Hello(protocol=1, role=role))
        assert (await peer.expect(wire.Welcome)).role == role

    meet(test)


def test_who_asked_and_left_is_not_handed_the_controls() -> None:
    async def test(hall: Hall) -> None:
        driver, viewer = await driver_and_viewer(hall)
        await viewer.say(
            wire.Hello(protocol=1, role="driver"), wire.Hello(protocol=1, role="driver")
        )
        await viewer.expect(wire.Welcome)
        assert (await driver.expect(wire.Welcome)).asking == 1
        assert (await driver.expect(wire.Welcome)).asking == 1
        viewer.socket.transport.abort()
        await until(lambda: len(hall.server.server.connections) == 1)
        await driver.say(wire.Hello(protocol=1, role="viewer"))
        assert (await driver.expect(wire.Welcome)).role == "viewer"

    meet(test)


def test_more_games_than_may_wait_cost_the_one_that_waited_longest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("worldsim.server.app.MAX_WAITING", 2)

    async def test(hall: Hall) -> None:
        tokens = []
        for seed in range(3):
            peer = await hall.join()
            await peer.started(clock="step", seed=seed)
            assert peer.welcome is not None and peer.welcome.resume is not None
            tokens.append(peer.welcome.resume)
            peer.socket.transport.abort()
            await until(lambda: len(hall.server.server.connections) == 0)
        late = await hall.join()
        await late.say(wire.Hello(protocol=1, resume=tokens[0]))
        await late.error("not_found")
        for token in tokens[1:]:
            await late.say(wire.Hello(protocol=1, resume=token))
            await late.expect(wire.Welcome)
            break

    meet(test, max_sessions=1)


def test_a_game_of_another_worker_is_looked_for_there() -> None:
    async def test(hall: Hall) -> None:
        peer = await hall.join()
        assert peer.welcome is not None and peer.welcome.resume is not None
        assert peer.welcome.game.startswith("2-") and peer.welcome.resume.startswith("2-")
        await peer.say(wire.Hello(protocol=1, resume="1-abc"))
        await peer.error("elsewhere")
        with pytest.raises(InvalidStatus) as refused:
            await hall.join("/watch/1-abc")
        assert refused.value.response.status_code == 421

    meet(test, worker=2)


def test_a_client_that_reads_no_answers_is_let_go() -> None:
    async def test() -> None:
        outlet = Outlet(None, 3, Metrics())  # type: ignore[arg-type]
        for number in range(65):
            outlet.tell(wire.Loaded(frame=number))
        sent: list[str | bytes] = []

        class Connection:
            async def send(self, data: str | bytes) -> None:
                sent.append(data)

        outlet._connection = Connection()  # type: ignore[assignment]
        with pytest.raises(Goodbye) as goodbye:
            await outlet.run()
        assert goodbye.value.code == 4008 and len(sent) == 64

    asyncio.run(test())


def test_a_frame_of_a_time_before_never_leaves() -> None:
    async def test() -> None:
        sent: list[str | bytes] = []

        class Connection:
            async def send(self, data: str | bytes) -> None:
                sent.append(data)

        outlet = Outlet(Connection(), 3, Metrics())  # type: ignore[arg-type]
        outlet.discard()  # there is none: nothing happens
        outlet.post(wire.Frame(number=4, width=1, height=1))
        outlet.discard()
        outlet.post(wire.Frame(number=5, width=1, height=1))
        outlet.dismiss(Goodbye(1000, "over"))
        sending = asyncio.create_task(outlet.run())
        with pytest.raises(Goodbye):
            await sending
        assert (len(sent), outlet.dropped) == (0, 1)

    asyncio.run(test())
