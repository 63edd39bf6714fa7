"""One connection: what it says is obeyed, in order; what it gets leaves through its outlet.

Orders (start, save, load, ...) are carried out here, between two ticks of the game.
"""

import asyncio
import logging
import time

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from worldsim import __version__
from worldsim.axes import Action, wrong_axis
from worldsim.errors import ProtocolError
from worldsim.server import protocol as wire
from worldsim.server.flow import Pace
from worldsim.server.game import Game, Refused, Seat
from worldsim.server.lobby import Lobby, welcome_of
from worldsim.server.orders import Orders
from worldsim.server.outlet import Goodbye, Outlet
from worldsim.server.scheduler import Scheduler
from worldsim.server.upload import UploadSlot

log = logging.getLogger("worldsim.server")

ERRORS = (20, 10.0)  # more than so many errors in so many seconds: close
MESSAGES = (100, 0.1)  # more than so many messages in so many seconds: read slower
ORDERS = (10, 1.0)  # the same for what costs the model time
LAST_WORDS = 1.0  # seconds for the replies before a close

POLICY, UNSUPPORTED, WRONG_VERSION = 1008, 1003, 4001  # close codes
AGENT = f"worldsim {__version__}"


class Session:
    """What the server knows about one connection."""

    def __init__(
        self,
        connection: ServerConnection,
        lobby: Lobby,
        scheduler: Scheduler,
        *,
        window: int,
        watched: Game | None = None,
    ) -> None:
        """`watched`: the game that it looks at; None: it plays one of its own."""
        self._connection = connection
        self._lobby = lobby
        self._scheduler = scheduler
        self._window = window
        self._outlet = Outlet(connection, window, lobby.metrics)
        self._seat = Seat(self._outlet, self._greet)
        self._game = lobby.open() if watched is None else watched
        if watched is None:
            lobby.drive(self._game, self._seat)
        else:
            lobby.watch(watched, self._seat)
        self._uploads = UploadSlot()
        self._error_pace, self._message_pace = Pace(*ERRORS), Pace(*MESSAGES)
        self._order_pace = Pace(*ORDERS)
        self._orders = Orders(lobby, self._outlet, self._seat, self._uploads)

    async def run(self) -> None:
        """Play until the client leaves or has to; cancelling closes nothing but the tasks."""
        self._greet()
        parts = (self._receive(), self._outlet.run())
        tasks = {asyncio.create_task(part) for part in parts}
        goodbye = None
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except Goodbye as error:
            goodbye = error
        except ConnectionClosed:
            pass  # the player left
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._lobby.leave(self._game, self._seat)
            reason = "the client left" if goodbye is None else goodbye.reason
            log.info("session over", extra={**self._facts(), "reason": reason})
        if goodbye is not None:
            await self._close(goodbye)

    def _facts(self) -> dict[str, object]:
        """For the log."""
        sent, dropped = self._outlet.sent, self._outlet.dropped
        missed = self._game.missed
        return {"game": self._game.id, "sent": sent, "not_read": dropped, "missed": missed}

    async def _close(self, goodbye: Goodbye) -> None:
        """Say what is still to be said, then close."""
        self._outlet.dismiss(goodbye)
        try:
            async with asyncio.timeout(LAST_WORDS):
                await self._outlet.run()
        except (Goodbye, ConnectionClosed, TimeoutError):
            pass
        await self._connection.close(goodbye.code, goodbye.reason)

    def _greet(self) -> None:
        """Tell the client where it sits."""
        welcome = welcome_of(self._lobby, self._game, self._seat, agent=AGENT, window=self._window)
        self._outlet.tell(welcome)

    # Messages in -----------------------------------------------------------------------------

    async def _receive(self) -> None:
        if self._connection.subprotocol != wire.SUBPROTOCOL:
            self._leave_version("no sub-protocol in common", None)
        async for data in self._connection:
            await asyncio.sleep(self._message_pace.excess(time.monotonic()))
            try:
                if isinstance(data, bytes):
                    self._take_chunk(data)
                else:
                    await self._obey(wire.parse_request(data))
            except ProtocolError as error:
                self._refuse("bad_message", str(error), error.path)
            except Refused as refused:
                self._refuse(refused.code, str(refused), refused.path)

    async def _obey(self, request: wire.Request) -> None:
        match request:
            case wire.Ack(frame):
                self._outlet.ack(frame)
            case wire.Hello():
                await self._hear_hello(request)
            case wire.Action():
                self._must_drive()
                action = self._checked(request)
                if self._game.mailbox.put(request.seq, action, time.monotonic()):
                    self._scheduler.wake()
            case wire.Upload():
                self._must_drive()
                self._uploads.announce(request)
            case wire.Start(keep=True) if self._seat is not self._game.driver:
                self._orders.look(request)
            case _:
                self._must_drive()
                await asyncio.sleep(self._order_pace.excess(time.monotonic()))
                await self._orders.carry_out(self._game, request)
                self._scheduler.wake()

    def _checked(self, request: wire.Action) -> Action:
        """What the player does; Refused if nobody can do that here."""
        world = self._lobby.engine.world
        if world.axes:
            wrong = wrong_axis(request.axes or (), world.axes)
            if wrong:
                raise Refused("bad_action", wrong, "$.axes")
            return request.axes or ()
        if request.axes is not None:
            raise Refused("bad_action", f"{world.name} has codes, not axes", "$.axes")
        if request.action >= world.num_actions:
            message = f"action must be < {world.num_actions}, got {request.action}"
            raise Refused("bad_action", message, "$.action")
        return request.action

    def _must_drive(self) -> None:
        if self._seat is not self._game.driver:
            raise Refused("forbidden", "a viewer may look, not touch; ask for the controls first")

    async def _hear_hello(self, hello: wire.Hello) -> None:
        if hello.protocol != wire.VERSION:
            self._leave_version(f"the client speaks {hello.protocol}", hello.protocol)
        if hello.resume is not None:
            game = await self._lobby.resume(hello.resume, self._seat)
            before, self._game = self._game, game
            if before is not game:
                self._lobby.leave(before, self._seat)
            self._greet()
            game.restored = None  # told
        elif hello.role is not None:
            is_driver = self._seat is self._game.driver
            if hello.role == "driver" and not is_driver:
                self._game.ask(self._seat)
            elif hello.role == "viewer" and is_driver:
                self._game.give_up()
            else:
                self._greet()  # it is so already
            self._lobby.settle(self._game)
        self._scheduler.wake()

    def _leave_version(self, why: str, client: int | None) -> None:
        message = f"this server speaks {wire.SUBPROTOCOL} (protocol {wire.VERSION}): {why}"
        self._outlet.tell(
            wire.Error(
                code="version_mismatch",
                message=message,
                fatal=True,
                client=client,
                server=wire.VERSION,
            )
        )
        raise Goodbye(WRONG_VERSION, "version mismatch")

    def _take_chunk(self, data: bytes) -> None:
        if not self._uploads.expects_more():
            raise Goodbye(UNSUPPORTED, "binary message without an announced upload")
        answer = self._uploads.take(data)
        if answer is not None:
            self._outlet.tell(answer)

    def _refuse(self, code: str, message: str, path: str) -> None:
        self._outlet.tell(wire.Error(code=code, message=message[:500], path=path))
        if self._error_pace.excess(time.monotonic()) > 0:
            raise Goodbye(POLICY, "too many errors")
