"""The barest client, and a way to run a test as one."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

import pytest
from fake_world import FakeWorld
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from worldsim.server import protocol as wire
from worldsim.server.app import Running, ServeConfig, running

R = TypeVar("R", bound=wire.Reply)
Test = Callable[["Peer"], Awaitable[None]]
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    b"Sec-WebSocket-Protocol: worldsim.v1\r\n\r\n"
)  # a handshake, by hand


class Peer:
    """The barest client: says what the test tells it to, and never acks by itself."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.welcome: wire.Welcome | None = None
        self.acts = 0

    async def say(self, *messages: wire.Request) -> None:
        for message in messages:
            await self.socket.send(wire.encode(message))

    async def hear(self) -> wire.Reply:
        """The next control message; frames before it are acked and dropped."""
        while isinstance(data := await self.socket.recv(), bytes):
            await self.say(wire.Ack(frame=wire.decode_frame(data).number))
        return wire.parse_reply(data)

    async def expect(self, kind: type[R]) -> R:
        """The next control message, which is one of that kind."""
        reply = await self.hear()
        assert isinstance(reply, kind), reply
        return reply

    async def act(self, action: int) -> wire.Frame:
        """On the step clock: one action, and the frame that it makes."""
        self.acts += 1
        await self.say(wire.Action(self.acts, action))
        return await self.frame()

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
    async with hall_of(world, **config) as hall:
        yield await hall.join()


class Hall:
    """A running server that any number of peers join."""

    def __init__(self, server: Running, world: FakeWorld, stack: AsyncExitStack) -> None:
        self.server = server
        self.world = world
        self._stack = stack

    async def join(self, path: str = "/", **options: Any) -> Peer:
        """A peer that has heard the server's hello, kept as `welcome`."""
        options = {
            "subprotocols": [wire.SUBPROTOCOL],
            "compression": None,
            "close_timeout": 0.3,
            **options,
        }
        socket = await self._stack.enter_async_context(connect(self.server.url + path, **options))
        peer = Peer(socket)
        welcome = await peer.hear()
        assert isinstance(welcome, wire.Welcome), welcome
        peer.welcome = welcome
        return peer

    async def resume(self, token: str) -> Peer:
        """A peer that has taken up the game with this token."""
        peer = await self.join()
        await peer.say(wire.Hello(protocol=1, resume=token))
        peer.welcome = await peer.expect(wire.Welcome)
        return peer


@asynccontextmanager
async def hall_of(world: FakeWorld, **config: Any) -> AsyncIterator[Hall]:
    config = {"port": 0, "max_sessions": 8, **config}
    async with (
        running(world, ServeConfig(**config)) as server,  # type: ignore[arg-type]
        AsyncExitStack() as stack,
    ):
        world.arm()
        yield Hall(server, world, stack)


def meet(
    test: Callable[[Hall], Awaitable[None]],
    world: FakeWorld | None = None,
    *,
    limit: float = 20,
    **config: Any,
) -> FakeWorld:
    """Run a test that needs several peers, for at most `limit` seconds."""
    world = world or FakeWorld()

    async def run() -> None:
        async with asyncio.timeout(limit), hall_of(world, **config) as hall:
            await test(hall)

    asyncio.run(run())
    return world


def play(test: Test, world: FakeWorld | None = None, **config: Any) -> FakeWorld:
    """Run a test that needs one."""

    async def with_one(hall: Hall) -> None:
        await test(await hall.join())

    return meet(with_one, world, **config)


async def until(claim: Callable[[], bool]) -> None:
    """Wait for something to become true; the test's own limit is the limit."""
    while not claim():
        await asyncio.sleep(0.005)
