"""The door of a server behind an ASGI proxy: what comes in is made to look as websockets has it.

The proxy owns the sockets: it is the proxy that pings, and it takes the frames of a slow client
into buffers of its own, which the acks of the protocol keep short.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AsyncExitStack
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Self, cast

from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from worldsim.server.app import ServeConfig, hosting
from worldsim.server.door import Door, select
from worldsim.server.protocol import MAX_MESSAGE

if TYPE_CHECKING:
    from worldsim.world import World

log = logging.getLogger("worldsim.server")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
TOO_BIG = 1009  # close code
BROKEN = 1  # exit code
DENIAL = "websocket.http.response"  # extension: a handshake may be refused in so many words


class AsgiConnection:
    """As much of a ServerConnection as Door, Session and Outlet use."""

    def __init__(self, scope: Message, receive: Receive, send: Send) -> None:
        self.request = request_of(scope)
        self.remote_address = scope["client"]
        offered = [Subprotocol(name) for name in scope.get("subprotocols", ())]
        self.subprotocol = select(cast(ServerConnection, self), offered)
        self._receive, self._send = receive, send
        self._is_open = True

    def respond(self, status: HTTPStatus, text: str) -> Response:
        """A plain answer, as ServerConnection makes it."""
        body = text.encode()
        headers = Headers(
            {"Content-Length": str(len(body)), "Content-Type": "text/plain; charset=utf-8"}
        )
        return Response(status.value, status.phrase, headers, body)

    async def send(self, data: str | bytes) -> None:
        """Hand a message to the proxy."""
        key = "text" if isinstance(data, str) else "bytes"
        await self._send({"type": "websocket.send", key: data})

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Once; a second time does nothing."""
        if self._is_open:
            self._is_open = False
            await self._send({"type": "websocket.close", "code": code, "reason": reason})

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str | bytes:
        message = await self._receive()
        if message["type"] != "websocket.receive":
            self._is_open = False
            raise StopAsyncIteration
        data: str | bytes | None = message.get("text")
        data = message["bytes"] if data is None else data
        if len(data.encode() if isinstance(data, str) else data) > MAX_MESSAGE:
            await self.close(TOO_BIG, "message too big")
            raise StopAsyncIteration
        return data


class App:
    """An ASGI application that loads its world when it starts; until then it can be sent to another
    process."""

    def __init__(self, load: Callable[[], "World"], config: Callable[[], ServeConfig]) -> None:
        self._load, self._config = load, config
        self._stack: AsyncExitStack | None = None
        self._door: Door | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One conversation: the life of the application, a request, or a connection."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        assert self._door is not None, "the application has started"
        connection = AsgiConnection(scope, receive, send)
        seen = cast(ServerConnection, connection)
        answer = self._door.check(seen, connection.request)
        if scope["type"] == "http":
            answer = answer or connection.respond(
                HTTPStatus.UPGRADE_REQUIRED, "this is for websockets\n"
            )
            await _answer(answer, send, "http.response")
            return
        await receive()  # websocket.connect
        if answer is not None:
            if DENIAL in scope.get("extensions", {}):
                await _answer(answer, send, DENIAL)
            else:  # the proxy says 403, whatever the reason was
                await send({"type": "websocket.close", "code": 1008})
            return
        await send({"type": "websocket.accept", "subprotocol": connection.subprotocol})
        await self._door.play(seen)
        await connection.close()

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()  # lifespan.startup
        async with hosting(self._load(), self._config()) as hosted:
            self._door = hosted.door
            await send({"type": "lifespan.startup.complete"})
            stopped = asyncio.ensure_future(receive())  # lifespan.shutdown
            await asyncio.wait({stopped, hosted.ticking}, return_when=asyncio.FIRST_COMPLETED)
            if hosted.ticking.done():  # a proxy would go on to send players here
                log.critical("the clock broke", exc_info=hosted.ticking.exception())
                os._exit(BROKEN)
        await send({"type": "lifespan.shutdown.complete"})


def request_of(scope: Message) -> Request:
    """The opening handshake, or the plain request."""
    query = scope["query_string"].decode("latin-1")
    headers = Headers()
    for name, value in scope["headers"]:
        headers[name.decode("latin-1")] = value.decode("latin-1")
    return Request(scope["path"] + (f"?{query}" if query else ""), headers)


async def _answer(response: Response, send: Send, kind: str) -> None:
    skipped = ("connection", "content-length", "date")  # the proxy writes these
    headers = [
        (name.lower().encode(), value.encode())
        for name, value in response.headers.raw_items()
        if name.lower() not in skipped
    ]
    await send({"type": f"{kind}.start", "status": response.status_code, "headers": headers})
    await send({"type": f"{kind}.body", "body": response.body or b""})
