"""What a client that does wrong gets over a real socket, and that nobody else notices."""

import asyncio
from typing import Any

import pytest
from fake_world import FakeWorld, read_back
from peer import Peer, play
from websockets.asyncio.client import connect

from worldsim.server import protocol as wire
from worldsim.server.app import ServeConfig, running
from worldsim.server.media import decode_picture


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('{"type":"action","seq":1,"action":9}', "bad_action"),
        ('{"type":"dance"}', "bad_message"),
        ("[" * 9000, "bad_message"),
        ('{"type":"rewind","ticks":3}', "not_started"),
        ('{"type":"fork"}', "not_started"),
        ('{"type":"start","save":"here"}', "not_found"),
        ('{"type":"hello","protocol":1,"resume":"nonsense"}', "not_found"),
        ('{"type":"record","on":true}', "not_supported"),
        ('{"type":"save"}', "not_started"),
        ('{"type":"start","upload":4}', "not_found"),
    ],
)
def test_f10_a_wrong_request_gets_a_typed_error_and_the_session_goes_on(
    text: str, code: str
) -> None:
    async def test(peer: Peer) -> None:
        await peer.socket.send(text)
        error = await peer.error(code)
        assert not error.fatal
        if code == "bad_action":
            assert (error.message, error.path) == ("action must be < 8, got 9", "$.action")
        await peer.started()
        await peer.frame()

    play(test)


def test_f10_too_many_errors_close_the_session() -> None:
    async def test(peer: Peer) -> None:
        for _ in range(21):
            await peer.socket.send("nonsense")
        assert await peer.closed() == 1008

    play(test)


def test_f11_bytes_that_nobody_announced_close_the_session() -> None:
    async def test(peer: Peer) -> None:
        await peer.socket.send(b"\x00\x01")
        assert await peer.closed() == 1003

    play(test)


def test_f11_a_message_that_is_too_long_closes_the_session() -> None:
    async def test(peer: Peer) -> None:
        await peer.socket.send(17 * 1024 * "x")
        assert await peer.closed() == 1009

    play(test)


def test_f08_a_client_of_another_version_is_told_which_one_this_is() -> None:
    async def test(peer: Peer) -> None:
        await peer.say(wire.Hello(protocol=1), wire.Hello(protocol=2))
        error = await peer.error("version_mismatch")
        assert error.fatal and "worldsim.v1" in error.message
        assert (error.client, error.server) == (2, 1)
        assert await peer.closed() == 4001

    play(test)


def test_f29_a_model_that_fails_once_starts_again() -> None:
    async def test(peer: Peer) -> None:
        await peer.started(seed=4)
        await peer.frame()
        await peer.error("model")
        assert await peer.hear() == wire.Started(seed=4, clock="open", frame=1)
        assert (await peer.frame()).flags & wire.RESET

    play(test, FakeWorld(fail_at={2}))


def test_f29_a_model_that_keeps_failing_closes_the_session() -> None:
    async def test(peer: Peer) -> None:
        await peer.started()
        assert await peer.closed() == 1011

    play(test, FakeWorld(fail_at=set(range(1, 10))))


def test_f12_a_flood_of_actions_leaves_the_other_player_alone() -> None:
    async def run() -> None:
        world = FakeWorld()
        config = ServeConfig(port=0)
        subprotocols: Any = [wire.SUBPROTOCOL]
        async with (
            asyncio.timeout(15),
            running(world, config) as server,  # type: ignore[arg-type]
            connect(server.url, subprotocols=subprotocols) as noisy,
            connect(server.url, subprotocols=subprotocols) as quiet,
        ):

            async def flood() -> None:
                for seq in range(1, 100_000):
                    await noisy.send(wire.encode(wire.Action(seq, 1)))
                    await asyncio.sleep(0)

            flooding = asyncio.create_task(flood())
            peer = Peer(quiet)
            assert isinstance(await peer.hear(), wire.Welcome)
            await peer.started()
            frames = [await peer.frame() for _ in range(50)]
            assert frames[-1].number - frames[0].number < 100
            assert {read_back(decode_picture(frame))[0] for frame in frames} == {0}
            noisy.transport.abort()
            flooding.cancel()
            await asyncio.gather(flooding, return_exceptions=True)

    asyncio.run(run())
