"""The barest client, and a way to run a test as one."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fake_world import FakeWorld
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from worldsim.server import protocol as wire
from worldsim.server.app import ServeConfig, running

Test = Callable[["Peer"], Awaitable[None]]


class Peer:
    """The barest client: says what the test tells it to, and never acks by itself."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def say(self, *messages: wire.Request) -> None:
        for message in messages:
            await self.socket.send(wire.encode(message))

    async def hear(self) -> wire.Reply:
        """The next control message; frames before it are acked and dropped."""
        while isinstance(data := await self.socket.recv(), bytes):
            await self.say(wire.Ack(frame=wire.decode_frame(data).number))
        return wire.parse_reply(data)

    async def frame(self, *, ack: bool = True) -> wire.Frame:
        data = await self.socket.recv()
        assert isinstance(data, bytes), data
        frame = wire.decode_frame(data)
        if ack:
            await self.say(wire.Ack(frame=frame.number))
        return frame

    async def started(self, **start: Any) -> None:
        await self.say(wire.Start(**start))
        assert isinstance(await self.hear(), wire.Started)

    async def error(self, code: str) -> wire.Error:
        reply = await self.hear()
        assert isinstance(reply, wire.Error) and reply.code == code, reply
        return reply

    async def closed(self) -> int | None:
        with pytest.raises(ConnectionClosed):
            while True:
                await self.hear()
        return self.socket.close_code


@asynccontextmanager
async def peer_of(world: FakeWorld, **config: Any) -> AsyncIterator[Peer]:
    async with (
        running(world, ServeConfig(port=0, **config)) as server,  # type: ignore[arg-type]
        connect(server.url, subprotocols=[wire.SUBPROTOCOL], compression=None) as socket,  # type: ignore[list-item]
    ):
        world.arm()
        peer = Peer(socket)
        assert isinstance(await peer.hear(), wire.Welcome)
        yield peer


def play(test: Test, world: FakeWorld | None = None, **config: Any) -> FakeWorld:
    world = world or FakeWorld()

    async def run() -> None:
        async with asyncio.timeout(15), peer_of(world, **config) as peer:
            await test(peer)

    asyncio.run(run())
    return world
