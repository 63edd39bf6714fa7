"""The asyncio client of a worldsim server.

    async with await AsyncClient.connect("ws://127.0.0.1:8765") as client:
        await client.start(seed=1)
        await client.send_action(client.world.bindings["forward"])
        async for frame in client:
            show(frame.frame)

There is no background task: a frame is taken from the socket when it is asked for, and acknowledged
then, so a client that is slow with its frames gets newer ones, not older ones.
"""

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Self, TypeVar

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from worldsim.clients.connection import (
    DEFAULTS,
    Conversation,
    RemoteFrame,
    ServerError,
    Settings,
    dial,
)
from worldsim.errors import ProtocolError
from worldsim.server import protocol as wire

R = TypeVar("R", bound=wire.Reply)

# at a server of many workers: until the one that has the game is met, or known to be gone
ATTEMPTS, PAUSE = 80, 0.1
ENDED = (1000, 1001)  # close codes of a session that ended as it should


class AsyncClient:
    """One player on a server. Not for several tasks at once: one asks, one answer comes."""

    def __init__(self, connection: ClientConnection, world: wire.Welcome, timeout: float) -> None:
        """Use `connect`."""
        self.world = world
        self._connection = connection
        self._timeout = timeout
        self._conversation = Conversation()
        self._held: RemoteFrame | None = None  # came while an answer was awaited

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        token: str | None = None,
        timeout: float = 10.0,
        resume: str | None = None,
        watch: str | None = None,
    ) -> Self:
        """Open a session; `timeout` in seconds is for this and for every later answer.

        `resume`: take up the game with this token (`world.resume` of a connection that was lost not
        longer than a minute ago, or what `fork` gave). `watch`: look at the game with this id.
        Raises MachineError if nothing answers, ServerError if the server does not let us in.
        """
        for attempt in range(ATTEMPTS):
            try:
                return await cls._enter(url, token, timeout, resume, watch)
            except ServerError as error:
                if error.code != "elsewhere" or attempt == ATTEMPTS - 1:
                    raise
                await asyncio.sleep(PAUSE)
        raise AssertionError("the last attempt returns or raises")

    @classmethod
    async def _enter(
        cls, url: str, token: str | None, timeout: float, resume: str | None, watch: str | None
    ) -> Self:
        connection = await dial(url, token=token, timeout=timeout, watch=watch)
        try:
            data = await asyncio.wait_for(connection.recv(), timeout)
            welcome = Conversation().read(data)
            if not isinstance(welcome, wire.Welcome):
                raise ProtocolError(f"{url} began with something else than hello")
        except ConnectionClosed as error:
            raise _ended(error) from error
        except BaseException:
            await connection.close()
            raise
        client = cls(connection, welcome, timeout)
        if resume is not None:
            try:
                hello = wire.Hello(protocol=wire.VERSION, resume=resume)
                await client._ask(hello, wire.Welcome)
            except BaseException:
                await connection.close()
                raise
        return client

    async def start(
        self,
        *,
        seed: int = 0,
        clock: wire.Clock = "open",
        keep: bool = False,
        picture: bytes | None = None,
        settings: Settings = DEFAULTS,
    ) -> None:
        """Begin anew, from an encoded `picture` if given; `keep` only sets clock and settings.

        `clock` "open" ticks by itself, "step" once per action. ServerError if it cannot be done.
        """
        upload = None if picture is None else await self._send_upload("picture", picture)
        request = wire.Start(
            seed=seed,
            clock=clock,
            keep=keep,
            upload=upload,
            k=settings.k,
            quality=settings.quality,
            sound=settings.sound,
            objects=settings.objects,
        )
        await self._ask(request, wire.Started)
        self._held = None  # a frame of the time before

    async def send_action(self, action: int | Sequence[float]) -> int:
        """Hold `action` from now on; its sequence number."""
        message = self._conversation.action(action)
        await self._say(message)
        return message.seq

    async def frame(self, timeout: float | None = None) -> RemoteFrame:
        """The next frame; TimeoutError after `timeout` seconds without one.

        Raises ServerError if the server refused something, or ended the session.
        """
        if self._held is not None:
            held, self._held = self._held, None
            return held
        while True:
            item = await self._receive(timeout)
            if isinstance(item, RemoteFrame):
                return item

    async def step(self, action: int | Sequence[float]) -> RemoteFrame:
        """Send `action` and wait for the first frame that reflects it, on either clock."""
        seq = await self.send_action(action)
        while (frame := await self.frame(self._timeout)).header.action_seq < seq:
            pass
        return frame

    async def save(self, name: str = "quick") -> None:
        """Keep the present state on the server, by name, as long as the game lives."""
        await self._ask(wire.Save(name=name), wire.Saved)

    async def snapshot(self, name: str = "quick") -> bytes:
        """Keep the present state by name, and have it as bytes that `load_snapshot` takes."""
        saved = await self._ask(wire.Save(name=name, download=True), wire.Saved)
        data = bytearray()
        async with asyncio.timeout(self._timeout):
            while len(data) < saved.size:
                item = await self._receive(None)
                if isinstance(item, RemoteFrame):
                    self._held = item
                elif isinstance(item, wire.Chunk) and item.id == saved.download:
                    data += item.data
        return bytes(data)

    async def load(self, name: str = "quick") -> None:
        """Go back to a saved state; ServerError if there is none of that name."""
        await self._ask(wire.Load(name=name), wire.Loaded)
        self._held = None

    async def load_snapshot(self, snapshot: bytes) -> None:
        """Go on from a snapshot of `World.snapshot`; ServerError if it is not of this world."""
        upload = await self._send_upload("snapshot", snapshot)
        await self._ask(wire.Load(upload=upload), wire.Loaded)
        self._held = None

    async def rewind(self, ticks: int) -> int:
        """Undo at least `ticks`; how many it were. ServerError if the past is not that long."""
        undone = (await self._ask(wire.Rewind(ticks=ticks), wire.Rewound)).ticks
        self._held = None
        return undone

    async def fork(self) -> str:
        """A second game with the same present; the token with which `connect` takes it up."""
        return (await self._ask(wire.Fork(), wire.Forked)).resume

    async def record(self, on: bool) -> str | None:
        """Switch the recording on the server on or off; the name that its files begin with."""
        return (await self._ask(wire.Record(on=on), wire.Recording)).name

    async def set_role(self, role: wire.Role) -> wire.Role:
        """Ask for the controls ("driver") or give them up ("viewer"); what we are now.

        Who asks while another drives stays a viewer until that one gives them up.
        """
        welcome = await self._ask(wire.Hello(protocol=wire.VERSION, role=role), wire.Welcome)
        while role == "viewer" and welcome.role != role:  # that one told of somebody who asks
            welcome = await self._answer(wire.Welcome)
        return welcome.role

    async def close(self) -> None:
        """Leave."""
        await self._connection.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> RemoteFrame:
        try:
            return await self.frame()
        except ServerError as error:
            if error.code == "ended":
                raise StopAsyncIteration from error
            raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        await self.close()

    async def _send_upload(self, kind: wire.UploadKind, data: bytes) -> int:
        announced, chunks = self._conversation.upload(kind, data)
        await self._say(announced)
        for chunk in chunks[:-1]:
            await self._connection.send(chunk)
        await self._ask(chunks[-1], wire.Uploaded)
        return announced.id

    async def _ask(self, request: wire.Request | bytes, answer: type[R]) -> R:
        await self._say(request)
        return await self._answer(answer)

    async def _answer(self, answer: type[R]) -> R:
        async with asyncio.timeout(self._timeout):
            while True:
                item = await self._receive(None)
                if isinstance(item, answer):
                    return item
                if isinstance(item, RemoteFrame):
                    self._held = item

    async def _receive(self, timeout: float | None) -> RemoteFrame | wire.Chunk | wire.Reply:
        """One message, a frame acknowledged; only the wait for it can time out."""
        try:
            data = await asyncio.wait_for(self._connection.recv(), timeout)
        except ConnectionClosed as error:
            raise _ended(error) from error
        item = self._conversation.read(data)
        if isinstance(item, RemoteFrame):
            await self._say(wire.Ack(frame=item.header.number))
        if isinstance(item, wire.Welcome):
            self.world = item
        return item

    async def _say(self, request: wire.Request | bytes) -> None:
        data = request if isinstance(request, bytes) else wire.encode(request)
        try:
            await self._connection.send(data)
        except ConnectionClosed as error:
            raise _ended(error) from error


def _ended(error: ConnectionClosed) -> ServerError:
    close = error.rcvd
    if close is None:
        return ServerError("lost", "the connection to the server was lost")
    code = "ended" if close.code in ENDED else "closed"
    reason = close.reason or "no reason given"
    return ServerError(code, f"the server closed the session ({close.code}: {reason})")
