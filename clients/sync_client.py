"""The same client for programs without asyncio: it keeps an event loop in a thread of its own.

with Client.connect("ws://127.0.0.1:8765") as client:
    client.start(seed=1)
    frame = client.step(client.world.bindings["forward"])
"""

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from worldsim.clients.async_client import AsyncClient
from worldsim.clients.connection import DEFAULTS, RemoteFrame, ServerError, Settings
from worldsim.server import protocol as wire

T = TypeVar("T")


class _Loop:
    """An event loop in a daemon thread; pings are answered while the program is elsewhere."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise

    def is_open(self) -> bool:
        return not self._loop.is_closed()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Client:
    """One player on a server; see AsyncClient, whose methods these are."""

    def __init__(self, loop: _Loop, client: AsyncClient, where: dict[str, Any]) -> None:
        """Use `connect`, whose arguments are `where`."""
        self._loop = loop
        self._client = client
        self._where = where

    @classmethod
    def connect(
        cls,
        url: str,
        *,
        token: str | None = None,
        timeout: float = 10.0,
        resume: str | None = None,
        watch: str | None = None,
    ) -> Self:
        """Open a session; `timeout` in seconds is for this and for every later answer."""
        loop = _Loop()
        connecting = AsyncClient.connect(
            url, token=token, timeout=timeout, resume=resume, watch=watch
        )
        try:
            where = {"url": url, "token": token, "timeout": timeout}
            return cls(loop, loop.run(connecting), where)
        except BaseException:
            loop.close()
            raise

    @property
    def world(self) -> wire.Welcome:
        """What the server said about its world."""
        return self._client.world

    def start(
        self,
        *,
        seed: int = 0,
        clock: wire.Clock = "open",
        keep: bool = False,
        picture: bytes | None = None,
        settings: Settings = DEFAULTS,
    ) -> None:
        """Begin anew, from an encoded `picture` if given; `keep` only sets clock and settings."""
        starting = self._client.start(
            seed=seed, clock=clock, keep=keep, picture=picture, settings=settings
        )
        self._loop.run(starting)

    def send_action(self, action: int | Sequence[float]) -> int:
        """Hold `action` from now on; its sequence number."""
        return self._loop.run(self._client.send_action(action))

    def frame(self, timeout: float | None = None) -> RemoteFrame:
        """The next frame; TimeoutError after `timeout` seconds without one."""
        return self._loop.run(self._client.frame(timeout))

    def step(self, action: int | Sequence[float]) -> RemoteFrame:
        """Send `action` and wait for the first frame that reflects it."""
        return self._loop.run(self._client.step(action))

    def save(self, name: str = "quick") -> None:
        """Keep the present state on the server, by name, as long as the game lives."""
        self._loop.run(self._client.save(name))

    def load(self, name: str = "quick") -> None:
        """Go back to a saved state."""
        self._loop.run(self._client.load(name))

    def load_snapshot(self, snapshot: bytes) -> None:
        """Go on from a snapshot of `World.snapshot`."""
        self._loop.run(self._client.load_snapshot(snapshot))

    def snapshot(self, name: str = "quick") -> bytes:
        """Keep the present state by name, and have it as bytes that `load_snapshot` takes."""
        return self._loop.run(self._client.snapshot(name))

    def rewind(self, ticks: int) -> int:
        """Undo at least `ticks`; how many it were."""
        return self._loop.run(self._client.rewind(ticks))

    def fork(self) -> str:
        """A second game with the same present; the token with which `connect` takes it up."""
        return self._loop.run(self._client.fork())

    def second(self, resume: str) -> Self:
        """Another session on the same server, which takes up the game that `fork` made."""
        return self.connect(**self._where, resume=resume)

    def record(self, on: bool) -> str | None:
        """Switch the recording on the server on or off; the name that its files begin with."""
        return self._loop.run(self._client.record(on))

    def set_role(self, role: wire.Role) -> wire.Role:
        """Ask for the controls ("driver") or give them up ("viewer"); what we are now."""
        return self._loop.run(self._client.set_role(role))

    def close(self) -> None:
        """Leave; a second time does nothing."""
        if self._loop.is_open():
            self._loop.run(self._client.close())
            self._loop.close()

    def __iter__(self) -> Iterator[RemoteFrame]:
        while True:
            try:
                yield self.frame()
            except ServerError as error:
                if error.code == "ended":
                    return
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.close()
