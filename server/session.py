"""One connection playing one world: three tasks around a one-slot mailbox and a one-slot outlet.

`_receive` reads messages, `_play` makes ticks, the outlet lets frames out as far as the client's
acks allow. What changes the state (start, save, load) waits as an order, done between two ticks.
"""

import asyncio
import logging
import time
from collections import deque
from typing import TYPE_CHECKING

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from worldsim import __version__
from worldsim.errors import CheckpointError, ProtocolError
from worldsim.server import protocol as wire
from worldsim.server.engine import Engine, Rendered
from worldsim.server.flow import Mailbox, Pace
from worldsim.server.outlet import Outlet
from worldsim.server.upload import Refused, UploadSlot
from worldsim.ticker import Ticker

if TYPE_CHECKING:
    from worldsim.state import WorldState

log = logging.getLogger("worldsim.server")

STALL = 4.0  # seconds without an ack while frames wait: the client is gone or stuck
MAX_SAVES = 8  # states kept by name
MAX_ORDERS = 4  # start, save and load that may wait for the end of a tick
MAX_FAILURES = 3  # of the model in a row
ERRORS = (20, 10.0)  # more than so many errors in so many seconds: close
MESSAGES = (100, 0.1)  # more than so many messages in so many seconds: read slower

POLICY, UNSUPPORTED, MODEL_FAILED = 1008, 1003, 1011  # close codes
WRONG_VERSION, STALLED = 4001, 4008

Order = wire.Start | wire.Save | wire.Load


class Goodbye(Exception):
    """End the session with a close code and a reason (at most 123 bytes)."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Session:
    """What the server knows about one player."""

    def __init__(
        self, connection: ServerConnection, engine: Engine, *, rate: float, window: int
    ) -> None:
        world = engine.world
        self._connection = connection
        self._engine = engine
        self._period = 1.0 / rate
        self._window_size = window
        self._outlet = Outlet(connection, window)
        self._mailbox = Mailbox(world.bindings.get("noop", 0))
        self._done_seq = 0  # newest action that a tick has used
        self._orders: deque[tuple[Order, int]] = deque()  # with the newest action at that time
        self._wake = asyncio.Event()
        self._state: WorldState | None = None
        self._saves: dict[str, WorldState] = {}
        self._begin = wire.Start()
        self._ticker = Ticker(self._period, time.monotonic())
        self._number = 0  # of the next frame
        self._flags = 0  # of the next frame, beside those that it brings itself
        self._trunk_ms = 0.0
        self._failures = 0
        self._upload = UploadSlot()
        self._error_pace, self._message_pace = Pace(*ERRORS), Pace(*MESSAGES)
        self._missed = 0  # ticks, before the last restart

    async def run(self) -> None:
        """Play until the client leaves or has to; cancelling closes nothing but the tasks."""
        tasks: set[asyncio.Task[None]] = set()
        try:
            await self._say(self._welcome())
            parts = (self._receive(), self._play(), self._outlet.run())
            tasks = {asyncio.create_task(part) for part in parts}
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except Goodbye as goodbye:
            log.info("closing a session: %s", goodbye.reason)
            await self._connection.close(goodbye.code, goodbye.reason)
        except ConnectionClosed:
            pass  # the player left
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            log.info("session over: %s", self.account())

    def account(self) -> str:
        """What was sent and what was not, for the log."""
        missed = self._missed + self._ticker.missed
        return f"{self._outlet.sent} frames sent, {self._outlet.dropped} not read, {missed} missed"

    def _welcome(self) -> wire.Welcome:
        world = self._engine.world
        height, width = world.frame_size
        return wire.Welcome(
            protocol=wire.VERSION,
            agent=f"worldsim {__version__}",
            world=world.name,
            hash=world.hash,
            width=width,
            height=height,
            rate=1.0 / self._period,
            sample_rate=world.sample_rate,
            actions=world.actions,
            bindings=world.bindings,
            window=self._window_size,
        )

    # Messages in -----------------------------------------------------------------------------

    async def _receive(self) -> None:
        if self._connection.subprotocol != wire.SUBPROTOCOL:
            await self._leave_version("no sub-protocol in common")
        async for data in self._connection:
            await asyncio.sleep(self._message_pace.excess(time.monotonic()))
            try:
                if isinstance(data, bytes):
                    await self._take_chunk(data)
                else:
                    await self._obey(wire.parse_request(data))
            except ProtocolError as error:
                await self._refuse("bad_message", str(error))
            except Refused as refused:
                await self._refuse(refused.code, str(refused))

    async def _obey(self, request: wire.Request) -> None:
        match request:
            case wire.Action(seq, action):
                limit = self._engine.world.num_actions
                if action >= limit:
                    raise Refused("bad_action", f"action must be < {limit}, got {action}")
                if self._mailbox.put(seq, action):
                    self._wake.set()
            case wire.Ack(frame):
                self._outlet.ack(frame)
            case wire.Start() | wire.Save() | wire.Load():
                if len(self._orders) >= MAX_ORDERS:
                    raise Refused("busy", f"{MAX_ORDERS} requests wait already; await the answers")
                self._orders.append((request, self._mailbox.seq))
                self._wake.set()
            case wire.Upload():
                self._upload.announce(request)
            case wire.Hello(version):
                if version != wire.VERSION:
                    await self._leave_version(f"the client speaks {version}")
            case wire.Rewind() | wire.Fork() | wire.Record():
                verb = type(request).__name__.lower()
                raise Refused("not_supported", f"{verb} is not supported yet")

    async def _leave_version(self, why: str) -> None:
        message = f"this server speaks {wire.SUBPROTOCOL} (protocol {wire.VERSION}): {why}"
        await self._say(wire.Error(code="version_mismatch", message=message, fatal=True))
        raise Goodbye(WRONG_VERSION, "version mismatch")

    async def _take_chunk(self, data: bytes) -> None:
        if not self._upload.expects_more():
            raise Goodbye(UNSUPPORTED, "binary message without an announced upload")
        answer = self._upload.take(data)
        if answer is not None:
            await self._say(answer)

    async def _refuse(self, code: str, message: str) -> None:
        await self._say(wire.Error(code=code, message=message[:500]))
        if self._error_pace.excess(time.monotonic()) > 0:
            raise Goodbye(POLICY, "too many errors")

    async def _say(self, reply: wire.Reply) -> None:
        await self._connection.send(wire.encode(reply))

    # Ticks -----------------------------------------------------------------------------------

    async def _play(self) -> None:
        while True:
            while self._orders:
                order, seq = self._orders.popleft()
                try:
                    await self._perform(order, seq)
                except Refused as refused:
                    await self._refuse(refused.code, str(refused))
            if self._state is None or self._is_waiting_for_action():
                await self._wake.wait()
                self._wake.clear()
                continue
            if self._begin.clock == "open":
                await asyncio.sleep(self._ticker.due - time.monotonic())
            await self._tick(self._state)

    def _is_waiting_for_action(self) -> bool:
        return self._begin.clock == "step" and self._mailbox.seq <= self._done_seq

    async def _perform(self, order: Order, seq: int) -> None:
        match order:
            case wire.Save(name):
                if self._state is None:
                    raise Refused("not_started", "nothing to save: send start first")
                if name not in self._saves and len(self._saves) >= MAX_SAVES:
                    raise Refused("too_many", f"at most {MAX_SAVES} saved states, by name")
                self._saves[name] = self._state
                await self._say(wire.Saved(name=name, frame=max(0, self._number - 1)))
            case wire.Load():
                self._state = await self._find_state(order)
                await self._say(wire.Loaded(frame=self._number))
                self._restart(seq)
            case wire.Start():
                if not order.keep or self._state is None:
                    self._state = await self._reset(order)
                    self._flags |= wire.RESET
                self._begin = order
                await self._say(wire.Started(order.seed, order.clock, self._number))
                self._restart(seq)

    def _restart(self, seq: int) -> None:
        """Time begins anew: what the model or the disk took just now is not a missed tick."""
        self._done_seq = seq
        self._missed += self._ticker.missed
        self._ticker = Ticker(self._period, time.monotonic())

    async def _reset(self, order: wire.Start) -> "WorldState":
        picture = None
        if order.upload is not None:
            picture = self._upload.find(order.upload, "picture")
        try:
            return await self._engine.reset(seed=order.seed, picture=picture)
        except ValueError as error:
            raise Refused("bad_picture", str(error)) from error

    async def _find_state(self, order: wire.Load) -> "WorldState":
        if order.upload is None:
            if order.name not in self._saves:
                raise Refused("not_found", f"nothing was saved as {order.name!r} in this session")
            return self._saves[order.name]
        snapshot = self._upload.find(order.upload, "snapshot")
        try:
            state = await self._engine.restore(snapshot)
        except CheckpointError as error:
            raise Refused("bad_snapshot", str(error)) from error
        if len(state.tick) != 1:
            raise Refused("bad_snapshot", f"the snapshot holds {len(state.tick)} players, not 1")
        return state

    async def _tick(self, state: "WorldState") -> None:
        is_open = self._begin.clock == "open"
        due = self._ticker.due if is_open else time.monotonic()
        try:
            rendered = await self._engine.predict(state, self._mailbox.read)
            self._outlet.post(self._frame(rendered, due))
            await asyncio.sleep(0)  # the outlet's turn: the frame leaves before the trunk runs
            self._state, self._trunk_ms = await self._engine.advance(rendered)
        except Exception:  # one player's broken state must not end the others' games
            await self._recover()
            return
        self._failures = 0
        self._done_seq = rendered.seq
        if is_open and self._ticker.finish(time.monotonic()):
            self._flags |= wire.DEGRADED
        if is_open and self._outlet.stalled() > STALL:
            raise Goodbye(STALLED, f"no ack for {STALL:g} s")

    def _frame(self, rendered: Rendered, due: float) -> wire.Frame:
        height, width = self._engine.world.frame_size
        frame = wire.Frame(
            number=self._number,
            action_seq=rendered.seq,
            flags=wire.AI_GENERATED | self._flags | (wire.ALARM if rendered.is_alarm else 0),
            missed=self._ticker.missed,
            width=width,
            height=height,
            due_us=int(1e6 * due),
            wait_ms=1e3 * (rendered.began - due),
            trunk_ms=self._trunk_ms,
            **rendered.payload,
        )
        self._number += 1
        self._flags = 0
        return frame

    async def _recover(self) -> None:
        log.exception("the model failed")
        self._failures += 1
        if self._failures >= MAX_FAILURES:
            raise Goodbye(MODEL_FAILED, "the model keeps failing")
        await self._say(wire.Error(code="model", message="the world failed and starts again"))
        again = wire.Start(seed=self._begin.seed, clock=self._begin.clock)
        self._orders.appendleft((again, self._mailbox.seq))
