"""All players in one batch: who shares a forward pass, who fails alone, what gives way first."""

import asyncio
from typing import Any

import numpy as np
import pytest
from fake_world import FakeWorld, read_back
from peer import Hall, Peer, meet, play, until

from worldsim.server import protocol as wire
from worldsim.server.engine import Engine, Turn
from worldsim.server.media import decode_picture
from worldsim.slots import Slot


def test_all_players_are_one_forward_pass_per_tick() -> None:
    async def test(hall: Hall) -> None:
        peers = [await hall.join() for _ in range(3)]
        for seed, peer in enumerate(peers):
            await peer.started(seed=seed)
            await peer.say(wire.Action(1, 2 + seed))
        await until(lambda: len(world.batches) > 0 and world.batches[-1][0] == 4)
        world.arm()
        await until(lambda: len(world.batches) >= 5)
        for seed, peer in enumerate(peers):
            while (frame := await peer.frame()).action_seq < 1:
                pass
            assert read_back(decode_picture(frame))[0] == 2 + seed
        assert {rows for rows, _ in world.batches} == {4}  # three players, padded
        assert len(world.threads) == 1

    world = FakeWorld()
    meet(test, world)


def test_players_join_and_leave_between_ticks_and_keep_their_own_world() -> None:
    async def test(hall: Hall) -> None:
        first = await hall.join()
        await first.started()
        ticks = [read_back(decode_picture(await first.frame()))[1] for _ in range(5)]
        for _ in range(2):
            second = await hall.join()
            await second.started()
            assert read_back(decode_picture(await second.frame()))[1] == 1
            second.socket.transport.abort()
            ticks += [read_back(decode_picture(await first.frame()))[1] for _ in range(5)]
        assert ticks == sorted(ticks)

    meet(test)


@pytest.mark.parametrize("kind", ["raising", "nan", "forgetful"])
def test_f29_a_model_that_fails_for_one_player_is_reset_for_that_one_alone(kind: str) -> None:
    async def test(hall: Hall) -> None:
        healthy, broken = await hall.join(), await hall.join()
        await healthy.started(seed=1)
        await broken.started(seed=13)
        await healthy.frame()
        await broken.frame()
        before = read_back(decode_picture(await healthy.frame()))[1]
        getattr(world, kind).add(13)
        assert (await broken.error("model")).fatal is False
        getattr(world, kind).clear()
        assert (await broken.expect(wire.Started)).seed == 13
        while isinstance(data := await broken.socket.recv(), str):
            pass  # it failed once more before the fault was gone
        assert wire.decode_frame(data).flags & wire.RESET
        frames = [await healthy.frame() for _ in range(5)]
        assert not any(frame.flags & wire.RESET for frame in frames)
        assert read_back(decode_picture(frames[-1]))[1] > before

    world = FakeWorld(fps=8.0)
    meet(test, world)


def test_f29_a_player_whose_model_keeps_failing_has_to_go_the_others_stay() -> None:
    async def test(hall: Hall) -> None:
        healthy, broken = await hall.join(), await hall.join()
        await healthy.started(seed=1)
        await broken.started(seed=13)
        world.raising.add(13)
        assert await broken.closed() == 1011
        numbers = [(await healthy.frame()).number for _ in range(5)]
        assert numbers == sorted(set(numbers))

    world = FakeWorld()
    meet(test, world)


def test_players_may_wish_for_different_numbers_of_flow_steps() -> None:
    async def test(hall: Hall) -> None:
        one, four = await hall.join(), await hall.join()
        await one.started(k=1)
        await four.started(k=4)
        await one.frame()
        await four.frame()
        await until(lambda: {(1, 1), (1, 4)} <= set(world.batches))
        await four.started(k=1, keep=True)
        await until(lambda: world.batches[-1] == (2, 1))

    world = FakeWorld(fps=50.0)
    meet(test, world)


def test_a_tick_that_would_be_late_has_fewer_flow_steps_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("worldsim.costs.MEASURED_TICKS", 2)

    async def test(peer: Peer) -> None:
        await peer.started(k=4)
        frames = [await peer.frame() for _ in range(8)]
        assert world.batches[-1] == (1, 1)
        assert frames[-1].flags & wire.DEGRADED
        assert frames[-1].missed == frames[3].missed  # it gave way, and no tick was lost
        await peer.started(k=1, keep=True)
        await peer.frame()
        assert not (await peer.frame()).flags & wire.DEGRADED  # one step was asked for

    # one step fits into the period of 200 ms, two do not
    world = FakeWorld(fps=5.0, predict_s=0.02, step_s=0.1)
    play(test, world)


def test_no_frame_is_ever_sent_twice() -> None:
    async def test(peer: Peer) -> None:
        await peer.started()
        frames = [await peer.frame() for _ in range(10)]
        assert [frame.number for frame in frames] == sorted({frame.number for frame in frames})
        dues = [frame.due_us for frame in frames]
        assert dues == sorted(set(dues))

    play(test, FakeWorld(predict_s=0.015))


def test_a_player_on_the_step_clock_does_not_wait_for_the_others_clock() -> None:
    async def test(hall: Hall) -> None:
        slow, steps = await hall.join(), await hall.join()
        await slow.started()
        await steps.started(clock="step")
        await slow.frame()
        for action in range(1, 6):
            await steps.act(action)
        assert sum(name == "predict" for name, _ in world.calls) < 10
        assert steps.acts == 5

    world = FakeWorld(fps=2.0)
    meet(test, world)


def test_an_exact_server_always_computes_every_place() -> None:
    async def test(peer: Peer) -> None:
        await peer.started()
        await peer.frame()
        assert {rows for rows, _ in world.batches} == {4}

    world = FakeWorld()
    play(test, world, max_sessions=4, exact=True)


def test_capacity_is_measured_when_no_number_is_given() -> None:
    async def test(hall: Hall) -> None:
        assert hall.server.places == 1  # even one player takes longer than a period

    meet(test, FakeWorld(predict_s=0.02), max_sessions=None)


def test_the_shipped_world_replays_bit_for_bit_beside_a_neighbour() -> None:
    from worldsim.world import World

    world = World.load("doom-hall")
    actions = [1, 3, 3, 5, 0, 4]

    async def ticks(engine: Engine, slots: list[Slot], neighbour: int) -> tuple[list[Slot], Any]:
        shown = []
        for action in actions:
            turns = [
                Turn(slots[0], lambda action=action: (1, action)),  # type: ignore[misc]
                Turn(slots[1], lambda: (1, neighbour)),
            ]
            (batch,) = await engine.predict(turns, 2)
            after, _ = await engine.advance(batch)
            assert batch.shown[0] is not None
            shown.append(batch.shown[0].frame)
            slots = [slot for slot in after if slot is not None]
        return slots, np.stack(shown)

    async def run() -> None:
        engine = Engine(world)
        try:
            mine, other = Slot(world.reset(seed=5), 0), Slot(world.reset(seed=6), 0)
            saved = world.snapshot(mine.alone())
            ends, first = await ticks(engine, [mine, other], neighbour=2)
            again = Slot(world.restore(saved), 0)
            ends_again, second = await ticks(engine, [again, ends[1]], neighbour=7)
        finally:
            engine.close()
        np.testing.assert_array_equal(first, second)
        assert world.snapshot(ends[0].alone()) == world.snapshot(ends_again[0].alone())

    asyncio.run(run())
