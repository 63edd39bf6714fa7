"""`worldsim serve`: accepts connections, gives each one a session, ends them all cleanly."""

import asyncio
import logging
import secrets
import signal
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from websockets.asyncio.server import Server, serve

from worldsim.costs import size_of_batch
from worldsim.errors import ArgumentError, MachineError, WorldsimError
from worldsim.server.door import Door, select
from worldsim.server.engine import Engine
from worldsim.server.handshake import House, is_loopback
from worldsim.server.lobby import MAX_WAITING, Lobby
from worldsim.server.metrics import Metrics
from worldsim.server.protocol import MAX_MESSAGE
from worldsim.server.recorder import mend
from worldsim.server.scheduler import Scheduler
from worldsim.server.vault import Keeper, Vault
from worldsim.signing import Signer

if TYPE_CHECKING:
    from worldsim.world import World

log = logging.getLogger("worldsim.server")

SEND_BUFFER = 64 * 1024  # bytes in the kernel per connection: more would hide a slow reader
MAX_QUEUE = 8  # messages that wait to be obeyed; then the client's own buffers fill up
OPEN_TIMEOUT, CLOSE_TIMEOUT = 3.0, 1.0  # seconds
PING_EVERY, PING_TIMEOUT = 5.0, 10.0
MOST_PLACES = 256
INTERRUPTED = 130


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """Where and to whom a world is offered."""

    host: str = "127.0.0.1"
    port: int = 8765  # 0: any free one
    rate: float | None = None  # ticks per second; None: the world's own
    token: str | None = None
    insecure: bool = False  # no token although other machines can reach the address
    certfile: Path | None = None
    keyfile: Path | None = None
    max_sessions: int | None = None  # games at a time; None: as many as were measured
    window: int = 3  # frames on the way to a client without an ack
    exact: bool = False  # always compute all places: no replay depends on who else plays
    recordings: Path | None = None  # folder for what players record; None: they cannot
    signer: Signer | None = None  # signs recordings
    worker: int = 0  # 1..N: one of several processes that share the port
    saves: Path | None = None  # folder, shared by all servers of the world: games outlive a server
    save_every: float = 5.0  # seconds
    name: str = ""  # among the servers that share a port or saves; made up if one is needed

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ArgumentError(f"port must be 0..65535, got {self.port}")
        if self.rate is not None and not 0 < self.rate <= 1000:
            raise ArgumentError(f"rate must be above 0 and at most 1000 Hz, got {self.rate:g}")
        if self.max_sessions is not None and not 1 <= self.max_sessions <= MOST_PLACES:
            raise ArgumentError(
                f"sessions (max_sessions) must be 1..{MOST_PLACES}, got {self.max_sessions}"
            )
        if self.exact and self.max_sessions is None:
            raise ArgumentError(
                "exact needs sessions (max_sessions): how many places are always computed"
            )
        if self.window < 1:
            raise ArgumentError(f"window must be at least 1 frame, got {self.window}")
        if self.save_every <= 0:
            raise ArgumentError(f"save_every must be above 0 seconds, got {self.save_every:g}")
        if not self.name:  # never that of an earlier run: its games are not here
            name = str(self.worker or "") if self.saves is None else secrets.token_hex(4)
            object.__setattr__(self, "name", name)
        if self.keyfile is not None and self.certfile is None:
            raise ArgumentError("keyfile needs a certfile beside it")


@dataclass(frozen=True)
class Hosted:
    """A world that is ready to be played, behind a door. `ticking` ends only if it is broken."""

    door: Door
    places: int
    ticking: "asyncio.Task[None]"


@dataclass(frozen=True)
class Running:
    """A server that accepts players. `ticking` ends only if the server is broken."""

    url: str
    port: int
    places: int
    server: Server
    ticking: "asyncio.Task[None]"


@asynccontextmanager
async def running(world: "World", config: ServeConfig) -> AsyncIterator[Running]:
    """Serve for the length of the `async with`; leaving it closes every session with code 1001.

    Raises MachineError if the address cannot be had or may not be used without a token.
    """
    listener = listen(config)
    try:
        async with (
            hosting(world, config) as hosted,
            await open_server(hosted.door, listener, config) as server,
        ):
            port = listener.getsockname()[1]
            yield Running(_url(config, port), port, hosted.places, server, hosted.ticking)
    finally:
        listener.close()


@asynccontextmanager
async def hosting(world: "World", config: ServeConfig) -> AsyncIterator[Hosted]:
    """The world with its clock, its games and their saves, but nothing that listens."""
    rate = config.rate or world.fps
    engine = Engine(world, least_rows=_least_rows(config))
    try:
        if config.recordings is not None and config.recordings.is_dir():
            for path in mend(config.recordings):
                log.info("mended a recording that was cut short", extra={"path": path.name})
        costs = await engine.measure(1.0 / rate)
        places = config.max_sessions or costs.capacity(1.0 / rate)
        metrics = Metrics()
        lobby = Lobby(engine, metrics, rate=rate, recordings=config.recordings)
        lobby.signer = config.signer
        lobby.max_waiting = max(MAX_WAITING, places)
        lobby.name = config.name
        scheduler = Scheduler(engine, costs, lobby.games.values, 1.0 / rate, metrics)
        names = frozenset({socket.gethostname()})
        house = House(host=config.host, token=config.token, names=names)
        door = Door(lobby, scheduler, house, places=places, window=config.window)
        tasks = [ticking := asyncio.create_task(scheduler.run())]
        if config.saves is not None:
            vault = _vault(config.saves, config.name)
            lobby.keeper = Keeper(vault, engine, lobby.games.values, config.save_every)
            tasks.append(asyncio.create_task(lobby.keeper.run()))
        try:
            yield Hosted(door, places, ticking)
        finally:
            await lobby.settled()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await lobby.end_recordings()
            if lobby.keeper is not None:
                await lobby.keeper.finish()
    finally:
        engine.close()


def _vault(folder: Path, name: str) -> Vault:
    try:
        return Vault(folder, name)
    except OSError as error:
        raise MachineError(f"{folder}: no saves can be written there: {error.strerror}") from error


async def open_server(door: Door, listener: socket.socket, config: ServeConfig) -> Server:
    """Accept connections for `door`, with the limits that hold for every one of them."""
    quiet = logging.getLogger("worldsim.server.websockets")
    quiet.setLevel(logging.CRITICAL)  # it would log addresses, and garbage with a traceback
    return await serve(
        door.play,
        sock=listener,
        ssl=_tls(config),
        process_request=door.check,
        select_subprotocol=select,
        compression=None,
        max_size=MAX_MESSAGE,
        max_queue=MAX_QUEUE,
        open_timeout=OPEN_TIMEOUT,
        close_timeout=CLOSE_TIMEOUT,
        ping_interval=PING_EVERY,
        ping_timeout=PING_TIMEOUT,
        ssl_handshake_timeout=None if config.certfile is None else OPEN_TIMEOUT,
        server_header=None,
        logger=quiet,
    )


def _least_rows(config: ServeConfig) -> int:
    return size_of_batch(config.max_sessions) if config.exact and config.max_sessions else 1


def _url(config: ServeConfig, port: int) -> str:
    name = f"[{config.host}]" if ":" in config.host else config.host
    return f"{'ws' if config.certfile is None else 'wss'}://{name}:{port}"


def guard(config: ServeConfig) -> None:
    """MachineError for an address that strangers can reach, without a token."""
    if not is_loopback(config.host) and config.token is None and not config.insecure:
        raise MachineError(
            f"host {config.host} can be reached from other machines: give --token as well, "
            "or --insecure to let everybody in"
        )


def listen(config: ServeConfig) -> socket.socket:
    """The listening socket; MachineError, in one sentence, if it cannot be had."""
    host, port = config.host, config.port
    guard(config)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, reuse_port=config.worker > 0)
    except OSError as error:
        raise MachineError(_why_not(host, port, error)) from error
    # inherited by the connections; asyncio sets TCP_NODELAY on each
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
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
        log.info(
            "serving %s at %s, %g ticks per second, %d places",
            *(world.name, serving.url, rate, serving.places),
        )
        log.info("in a browser: %s/", serving.url.replace("ws", "http", 1))
        ends: set[asyncio.Future[Any]] = {stopped, serving.ticking}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if stopped.done():
            log.info("stopping")
            return stopped.result()
        serving.ticking.result()  # raises what broke it
        raise AssertionError("the scheduler ended by itself")
