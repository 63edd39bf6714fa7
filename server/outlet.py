"""What leaves a connection: replies in order, the newest frame, and downloads in between.

Nothing here waits but `run`. Frames have one slot and go as far as the client's acks allow, replies
have a short queue, a download waits until neither is left to send.
"""

import asyncio
import time
from collections import deque
from dataclasses import replace

from websockets.asyncio.server import ServerConnection

from worldsim.server import protocol as wire
from worldsim.server.flow import Window
from worldsim.server.metrics import Metrics

MAX_REPLIES = 64  # that a client may leave unread
CHUNK_BYTES = 16 * 1024  # of a download: a frame never waits for more than that
STUCK, POLICY = 4008, 1008  # close codes


class Goodbye(Exception):
    """End the session with a close code and a reason (at most 123 bytes)."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Outlet:
    """The sending half of a session."""

    def __init__(self, connection: ServerConnection, window: int, metrics: Metrics) -> None:
        self.sent = self.dropped = 0
        self._connection = connection
        self._window = Window(window)
        self._metrics = metrics
        self._replies: deque[wire.Reply] = deque()
        self._slot: tuple[wire.Frame, float] | None = None  # the newest frame, and since when
        self._newest = 0  # number of the newest frame made
        self._download: tuple[int, bytes, int] | None = None  # id, data, offset
        self._wake = asyncio.Event()
        self._farewell: Goodbye | None = None

    def tell(self, reply: wire.Reply) -> None:
        """Send a reply, after those before it. A client that reads none of them has to go."""
        if len(self._replies) >= MAX_REPLIES:
            self.dismiss(Goodbye(STUCK, "replies are not read"))
            return
        self._replies.append(reply)
        self._wake.set()

    def post(self, frame: wire.Frame) -> None:
        """Put a frame into the slot; one that is still there never leaves, a reset is told on."""
        if self._slot is not None:
            self._drop()
            frame = replace(frame, flags=frame.flags | self._slot[0].flags & wire.RESET)
        self._slot = frame, time.monotonic()
        self._newest = frame.number
        self._wake.set()

    def discard(self) -> None:
        """The frame in the slot is of a time before; it never leaves."""
        if self._slot is not None:
            self._drop()
            self._slot = None

    def offer(self, number: int, data: bytes) -> None:
        """Send `data` in chunks of download `number`; one that is under way is given up."""
        self._download = number, data, 0
        self._wake.set()

    def ack(self, number: int) -> None:
        """The client has frames up to `number`; an ack for what was never sent changes nothing."""
        if self._window.ack(number):
            self._metrics.client_lag.observe(self._newest - number)
            self._wake.set()

    def stalled(self) -> float:
        """Seconds since the oldest frame left that the client has not acknowledged; 0 for none."""
        return self._window.age(time.monotonic())

    def dismiss(self, goodbye: Goodbye) -> None:
        """`run` ends with `goodbye` once the replies have left."""
        self._farewell = goodbye
        self._wake.set()

    async def run(self) -> None:
        """Send for as long as the connection lives; raises ConnectionClosed or Goodbye."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while (data := self._next()) is not None:
                began = time.monotonic()
                await self._connection.send(data)
                if isinstance(data, bytes):
                    self._metrics.frame_seconds.labels("send").observe(time.monotonic() - began)
            if self._farewell is not None:
                raise self._farewell

    def _next(self) -> str | bytes | None:
        if self._replies:
            return wire.encode(self._replies.popleft())
        if self._farewell is not None:
            return None
        if self._slot is not None and not self._window.is_full():
            return self._next_frame(*self._slot)
        if self._download is not None:
            return self._next_chunk(*self._download)
        return None

    def _next_frame(self, frame: wire.Frame, since: float) -> bytes:
        self._slot = None
        now = time.monotonic()
        self._window.send(frame.number, now)
        self.sent += 1
        self._metrics.frames.labels("sent").inc()
        self._metrics.frame_seconds.labels("queue").observe(now - since)
        return wire.encode_frame(frame)

    def _next_chunk(self, number: int, data: bytes, offset: int) -> bytes:
        end = offset + CHUNK_BYTES
        self._download = (number, data, end) if end < len(data) else None
        return wire.encode_chunk(wire.Chunk(number, offset, data[offset:end]))

    def _drop(self) -> None:
        self.dropped += 1
        self._metrics.frames.labels("dropped").inc()
