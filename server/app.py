"""`worldsim serve`: accepts connections, gives each one a session, ends them all cleanly."""

import asyncio
import logging
import signal
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from worldsim.errors import MachineError, WorldsimError
from worldsim.server.engine import Engine
from worldsim.server.handshake import is_loopback, refusal, select_subprotocol
from worldsim.server.protocol import MAX_MESSAGE
from worldsim.server.session import Session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worldsim.world import World

log = logging.getLogger("worldsim.server")

SEND_BUFFER = 64 * 1024  # bytes in the kernel per connection: more would hide a slow reader
OPEN_TIMEOUT, CLOSE_TIMEOUT = 5.0, 1.0  # seconds
PING_EVERY, PING_TIMEOUT = 10.0, 10.0
TRY_AGAIN_LATER = 1013
INTERRUPTED = 130


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """Where and to whom a world is offered."""

    host: str = "127.0.0.1"
    port: int = 8765  # 0: any free one
    rate: float | None = None  # ticks per second; None: the world's own
    token: str | None = None
    certfile: Path | None = None
    keyfile: Path | None = None
    max_sessions: int = 4
    window: int = 3  # frames on the way to a client without an ack

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port must be 0..65535, got {self.port}")
        if self.rate is not None and not 0 < self.rate <= 1000:
            raise ValueError(f"rate must be above 0 and at most 1000 Hz, got {self.rate:g}")
        if self.max_sessions < 1 or self.window < 1:
            raise ValueError("there must be room for at least one session and one frame")
        if self.keyfile is not None and self.certfile is None:
            raise ValueError("keyfile needs a certfile beside it")


@dataclass(frozen=True)
class Running:
    """A server that accepts players."""

    url: str
    port: int
    server: Server


@asynccontextmanager
async def running(world: "World", config: ServeConfig) -> AsyncIterator[Running]:
    """Serve for the length of the `async with`; leaving it closes every session with code 1001.

    Raises MachineError if the address cannot be had or may not be used without a token.
    """
    engine = Engine(world)
    door = _Door(engine, config)
    listener = listen(config)
    try:
        server = await serve(
            door.play,
            sock=listener,
            ssl=_tls(config),
            process_request=door.check,
            select_subprotocol=_select,
            compression=None,
            max_size=MAX_MESSAGE,
            open_timeout=OPEN_TIMEOUT,
            close_timeout=CLOSE_TIMEOUT,
            ping_interval=PING_EVERY,
            ping_timeout=PING_TIMEOUT,
            server_header=None,
        )
        async with server:
            port = listener.getsockname()[1]
            name = f"[{config.host}]" if ":" in config.host else config.host
            scheme = "ws" if config.certfile is None else "wss"
            yield Running(f"{scheme}://{name}:{port}", port, server)
    finally:
        listener.close()
        engine.close()


class _Door:
    """Counts sessions and lets in as many as there is room for."""

    def __init__(self, engine: Engine, config: ServeConfig) -> None:
        self._engine = engine
        self._config = config
        self._rate = config.rate or engine.world.fps
        self._open = 0

    def check(self, connection: ServerConnection, request: Request) -> Response | None:
        """Before the handshake: an HTTP answer for who may not come in, else None."""
        only_loopback = is_loopback(self._config.host)
        token = self._config.token
        refused = refusal(request.headers, token=token, only_loopback=only_loopback)
        if refused is None and self._is_full():
            refused = HTTPStatus.SERVICE_UNAVAILABLE, f"{self._full()}; try again later\n"
        if refused is None:
            return None
        status, reason = refused
        log.info("refused a connection: %d %s", status, reason.strip())
        response = connection.respond(status, reason)
        if status is HTTPStatus.SERVICE_UNAVAILABLE:
            response.headers["Retry-After"] = "5"
        return response

    async def play(self, connection: ServerConnection) -> None:
        """One session, from its first message to its last."""
        if self._is_full():  # handshakes that were under way together
            await connection.close(TRY_AGAIN_LATER, self._full())
            return
        self._open += 1
        try:
            window = self._config.window
            await Session(connection, self._engine, rate=self._rate, window=window).run()
        finally:
            self._open -= 1

    def _is_full(self) -> bool:
        return self._open >= self._config.max_sessions

    def _full(self) -> str:
        return f"all {self._config.max_sessions} places are taken"


def _select(_: ServerConnection, offered: "Sequence[Subprotocol]") -> Subprotocol | None:
    chosen = select_subprotocol(offered)
    return None if chosen is None else Subprotocol(chosen)


def listen(config: ServeConfig) -> socket.socket:
    """The listening socket; MachineError, in one sentence, if it cannot be had."""
    host, port = config.host, config.port
    if not is_loopback(host) and config.token is None:
        raise MachineError(f"host {host} can be reached from other machines: give --token as well")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        raise MachineError(_why_not(host, port, error)) from error
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)  # inherited
    return listener


def _why_not(host: str, port: int, error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return f"host {host!r} is not known here; use an address of this machine"
    reason = (error.strerror or str(error)).split(" (while")[0].lower()
    return f"port {port} of {host} cannot be used ({reason}); choose another with --port"


def _tls(config: ServeConfig) -> ssl.SSLContext | None:
    if config.certfile is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(config.certfile, config.keyfile)
    except OSError as error:  # ssl.SSLError is one too
        raise WorldsimError(f"{config.certfile}: not a usable certificate: {error}") from error
    return context


def run(world: "World", config: ServeConfig) -> int:
    """Serve until a signal; the exit code: 130 after Ctrl-C, 0 after SIGTERM."""
    return asyncio.run(_run(world, config))


async def _run(world: "World", config: ServeConfig) -> int:
    loop = asyncio.get_running_loop()
    stopped: asyncio.Future[int] = loop.create_future()

    def stop(number: signal.Signals, code: int) -> None:
        loop.remove_signal_handler(number)  # a second one ends the process at once
        if not stopped.done():
            stopped.set_result(code)

    loop.add_signal_handler(signal.SIGINT, stop, signal.SIGINT, INTERRUPTED)
    loop.add_signal_handler(signal.SIGTERM, stop, signal.SIGTERM, 0)
    async with running(world, config) as serving:
        rate = config.rate or world.fps
        log.info("serving %s at %s, %g ticks per second", world.name, serving.url, rate)
        return await stopped
