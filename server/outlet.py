"""Frames on their way out: one slot for the newest, let go as far as the client's acks allow."""

import asyncio
import time
from dataclasses import replace

from websockets.asyncio.server import ServerConnection

from worldsim.server import protocol as wire
from worldsim.server.flow import Window


class Outlet:
    """The sending half of a session. `post` never waits; `run` does the waiting."""

    def __init__(self, connection: ServerConnection, window: int) -> None:
        self.sent = self.dropped = 0
        self._connection = connection
        self._window = Window(window)
        self._slot: wire.Frame | None = None  # the newest frame that has not left
        self._may_send = asyncio.Event()

    def post(self, frame: wire.Frame) -> None:
        """Put a frame into the slot; one that is still there never leaves, a reset is told on."""
        if self._slot is not None:
            self.dropped += 1
            frame = replace(frame, flags=frame.flags | self._slot.flags & wire.RESET)
        self._slot = frame
        self._may_send.set()

    def ack(self, number: int) -> None:
        """The client has frames up to `number`; an ack for what was never sent changes nothing."""
        if self._window.ack(number):
            self._may_send.set()

    def stalled(self) -> float:
        """Seconds since the oldest frame left that the client has not acknowledged; 0 for none."""
        return self._window.age(time.monotonic())

    async def run(self) -> None:
        """Send for as long as the connection lives; raises ConnectionClosed."""
        while True:
            await self._may_send.wait()
            self._may_send.clear()
            if self._slot is None or self._window.is_full():
                continue
            frame, self._slot = self._slot, None
            self._window.send(frame.number, time.monotonic())
            self.sent += 1
            await self._connection.send(wire.encode_frame(frame))
            self._may_send.set()  # what was posted meanwhile
