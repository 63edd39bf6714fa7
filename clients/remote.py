"""A game on a server, which keeps the time: this sends keys and takes frames."""

import time
from collections.abc import Callable

from worldsim.axes import Action, Axis
from worldsim.clients.connection import RemoteFrame, ServerError
from worldsim.clients.source import Beginning, Facts, Picture
from worldsim.clients.sync_client import Client
from worldsim.errors import WorldsimError
from worldsim.server import protocol as wire

POLL = 0.004  # seconds: how often the keys are looked at while a frame is awaited
PATIENCE = 0.1  # seconds without a frame, then the window gets a turn


class RemoteSource:
    """A world on a server. The server keeps the time, this sends keys and takes frames."""

    def __init__(self, client: Client, beginning: Beginning, *, keep: bool = False) -> None:
        """Takes over the client, with its game as it stands if `keep`. Raises ServerError for a
        picture or snapshot that is none."""
        world = client.world
        self.facts = Facts(
            name=world.world,
            hash=world.hash,
            fps=world.rate,
            sample_rate=None if world.sample_rate is None else round(world.sample_rate),
            frame_size=(world.height, world.width),
            bindings=world.bindings,
            num_actions=len(world.actions),
            axes=tuple(Axis(name=a.name, low=a.low, high=a.high) for a in world.axes),
        )
        self._client = client
        self._beginning = beginning
        self._clock: wire.Clock = "step"
        self._held: Action | None = None
        self._hold_until = 0.0  # a tap shorter than a tick must not be overwritten before its tick
        self._missed = self._missed_before = 0
        if keep:
            self.pause(True)
        else:
            self.reset()

    @property
    def missed(self) -> int:
        """Ticks that the server dropped."""
        return self._missed_before + self._missed

    def poll(self, read: Callable[[], Action]) -> Picture | None:
        """Sends each change of the keys at once while it waits for a frame."""
        if self._clock == "step":
            self.pause(False)
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            action = read()
            if action != self._held and time.monotonic() >= self._hold_until:
                self._held = action
                self._hold_until = time.monotonic() + 1.0 / self.facts.fps
                self._client.send_action(action)
            try:
                return self._show(self._client.frame(POLL))
            except TimeoutError:
                continue
        return None

    def single(self, action: Action) -> Picture:
        """One tick on the server."""
        if self._clock == "open":
            self.pause(True)
        self._held = action
        return self._show(self._client.step(action))

    def settle(self) -> None:
        """The server's own business."""

    def reset(self) -> None:
        """Begin again on the server, on the clock of before."""
        beginning = self._beginning
        self._client.start(seed=beginning.seed, clock=self._clock, picture=beginning.picture)
        if beginning.snapshot is not None:
            self._client.load_snapshot(beginning.snapshot)
        self._count_anew()

    def pause(self, paused: bool) -> None:
        """Hand the clock to our steps, or back to the server."""
        self._clock = "step" if paused else "open"
        self._client.start(seed=self._beginning.seed, clock=self._clock, keep=True)
        self._count_anew()

    def save(self) -> bytes:
        """The state on the server, downloaded."""
        return self._client.snapshot()

    def load(self, snapshot: bytes) -> None:
        """Raises ServerError for a snapshot that the server does not take."""
        self._client.load_snapshot(snapshot)
        self._count_anew()

    def rewind(self, ticks: int) -> int:
        """On the server."""
        try:
            undone = self._client.rewind(ticks)
        except ServerError as error:
            if error.code == "not_found":
                return 0
            raise
        self._count_anew()
        return undone

    def fork(self) -> "RemoteSource":
        """A second connection to the same server. Raises ServerError if it has no room."""
        second = self._client.second(self._client.fork())
        return RemoteSource(second, self._beginning, keep=True)

    def bind(self, control: str, code: int) -> None:
        """Raises WorldsimError: others play there."""
        raise WorldsimError("keys are bound where the world is: worldsim actions WORLD --bind")

    def close(self) -> None:
        """Leave the server."""
        self._client.close()

    def _count_anew(self) -> None:
        self._missed_before += self._missed
        self._missed = 0

    def _show(self, frame: RemoteFrame) -> Picture:
        self._missed = frame.header.missed
        is_alarm = bool(frame.header.flags & wire.ALARM)
        return Picture(
            frame=frame.frame,
            sound=frame.sound if len(frame.sound) else None,
            is_alarm=is_alarm,
            action_ms=frame.latency_ms,
            objects=frame.objects if len(frame.objects) else None,
        )
