"""Where the pictures of a game come from: a world in this process, or a server.

Window and headless play know only `Source`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from worldsim.axes import Action, Axis, at_rest
from worldsim.clients.connection import RemoteFrame, ServerError
from worldsim.clients.keys import choose
from worldsim.clients.sync_client import Client
from worldsim.errors import WorldsimError
from worldsim.history import History
from worldsim.server import protocol as wire
from worldsim.server.media import fit_picture
from worldsim.slots import Slot, num_bytes
from worldsim.ticker import Ticker

if TYPE_CHECKING:
    from worldsim.output import Prediction
    from worldsim.state import WorldState
    from worldsim.world import World

POLL = 0.004  # seconds: how often the keys are looked at while a server's frame is awaited
PATIENCE = 0.1  # seconds without a frame, then the window gets a turn
PAST = 256 * 1024 * 1024  # bytes of the states that a local game can be rewound to


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One frame to show. `action_ms`: from the action to having the frame, None if it reflects no
    new action."""

    frame: NDArray[np.uint8]  # (H, W, 3)
    sound: NDArray[np.float32] | None = None  # (n,), -1..1; None in a silent world
    is_alarm: bool
    action_ms: float | None
    flow_steps: int | None = None  # that it was given; None: the server's own business
    objects: NDArray[np.float32] | None = None  # (K, D) as in docs/protocol.md


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a world says about itself."""

    name: str
    hash: str
    fps: float
    sample_rate: int | None = None  # Hz; None: silent
    frame_size: tuple[int, int]  # (H, W)
    bindings: dict[str, int]
    num_actions: int
    axes: tuple[Axis, ...] = ()  # of continuous actions, in place of codes

    @property
    def idle(self) -> Action:
        """What somebody does who does nothing."""
        return at_rest(self.axes) if self.axes else choose(set(), self.bindings)


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """How a game starts, and starts again at a reset. `picture` and `snapshot` are files' bytes."""

    seed: int = 0
    picture: bytes | None = None
    snapshot: bytes | None = None


class Source(Protocol):
    """A game that is being played."""

    facts: Facts

    @property
    def missed(self) -> int:
        """Ticks dropped so far, as counted by whoever runs the world."""
        ...

    def poll(self, read: Callable[[], Action]) -> Picture | None:
        """The next picture in real time; `read` says which action is held, as late as possible.

        None when there was no picture for a while.
        """
        ...

    def single(self, action: Action) -> Picture:
        """One tick, out of time: for single steps and for headless play."""
        ...

    def settle(self) -> None:
        """The picture is on the screen: do what can wait."""
        ...

    def reset(self) -> None:
        """Begin again as at first."""
        ...

    def pause(self, paused: bool) -> None:
        """Stop real time, or let it go on."""
        ...

    def save(self) -> bytes:
        """The present moment, as `World.snapshot` writes it."""
        ...

    def load(self, snapshot: bytes) -> None:
        """Go on from a snapshot. WorldsimError if it is not one of this world; nothing is lost."""
        ...

    def rewind(self, ticks: int) -> int:
        """Undo at least `ticks`; how many it were, 0 if the past does not reach so far."""
        ...

    def fork(self) -> "Source":
        """A second game with the same present, which goes its own way."""
        ...

    def bind(self, control: str, code: int) -> None:
        """From now on `control` is this code, here and in the world's folder. WorldsimError if the
        world cannot be changed."""
        ...

    def close(self) -> None:
        """End the game."""
        ...


class LocalSource:
    """A world in this process: predict, show, then advance."""

    def __init__(self, world: "World", beginning: Beginning) -> None:
        """Raises ValueError for a picture, CheckpointError for a snapshot that is none."""
        self.facts = Facts(
            name=world.name,
            hash=world.hash,
            fps=world.fps,
            sample_rate=_whole(world.sample_rate),
            frame_size=world.frame_size,
            bindings=world.bindings,
            num_actions=world.num_actions,
            axes=tuple(world.axes),
        )
        self._world = world
        self._beginning = beginning
        self._missed = 0
        self._prediction: Prediction | None = None
        self._ticker: Ticker | None = None  # None: the next poll begins a new time
        self._state: WorldState
        self._history: History
        self._ticks = 0
        self._go_on(self._begin())

    @property
    def missed(self) -> int:
        """Ticks that could not begin within their period."""
        return self._missed

    def poll(self, read: Callable[[], Action]) -> Picture | None:
        """Waits until the tick is due."""
        if self._ticker is None:
            self._ticker = Ticker(1.0 / self.facts.fps, time.monotonic())
        time.sleep(max(0.0, self._ticker.due - time.monotonic()))
        left = self._ticker.due + 1.0 / self.facts.fps - time.monotonic()
        return self.single(read(), left)

    def single(self, action: Action, left: float | None = None) -> Picture:
        """One tick, now, with so many seconds `left` for it."""
        began = time.perf_counter()
        self._prediction = self._world.predict(self._state, action, left=left)
        output = self._prediction.output
        return Picture(
            frame=output.frame[0],
            sound=None if output.audio is None else output.audio[0],
            is_alarm=output.alarm is not None and bool(output.alarm[0]),
            action_ms=1e3 * (time.perf_counter() - began),
            flow_steps=output.flow_steps,
            objects=None if output.objects is None else output.objects[0],
        )

    def settle(self) -> None:
        """Run the trunk on what was just shown."""
        assert self._prediction is not None
        self._state = self._world.advance(self._prediction)
        self._prediction = None
        self._ticks += 1
        if self._history.is_due(self._ticks):
            self._history.keep(self._ticks, Slot(self._state, 0))
        if self._ticker is not None:
            self._missed += self._ticker.finish(time.monotonic())

    def reset(self) -> None:
        """Begin again."""
        self._go_on(self._begin())

    def pause(self, paused: bool) -> None:
        """A pause is no missed tick."""
        self._ticker = None

    def save(self) -> bytes:
        """The state, as bytes."""
        return self._world.snapshot(self._state)

    def load(self, snapshot: bytes) -> None:
        """Raises CheckpointError for a snapshot that is none."""
        self._go_on(self._world.restore(snapshot))

    def rewind(self, ticks: int) -> int:
        """Back to a state that was kept."""
        found = self._history.at(self._ticks - ticks)
        if found is None:
            return 0
        undone: int = self._ticks - found[0]
        self._ticks, self._state = found
        self._ticker = None
        return undone

    def fork(self) -> "LocalSource":
        """The same state in another game: nothing is copied, for nothing in a state is changed."""
        other = LocalSource(self._world, self._beginning)
        other._go_on(self._state)
        return other

    def bind(self, control: str, code: int) -> None:
        """Raises MachineError if the folder cannot be written."""
        self._world.bind({control: code})
        self.facts = replace(self.facts, bindings=self._world.bindings)

    def close(self) -> None:
        """Nothing to give back."""

    def _go_on(self, state: "WorldState") -> None:
        """Another story, from `state` on."""
        self._state, self._ticks, self._ticker = state, 0, None
        size = num_bytes(state)
        self._history = History(rate=self.facts.fps, state_bytes=size, memory=PAST)
        self._history.keep(0, Slot(state, 0))

    def _begin(self) -> "WorldState":
        beginning = self._beginning
        if beginning.snapshot is not None:
            return self._world.restore(beginning.snapshot)
        frames = None
        if beginning.picture is not None:
            frames = fit_picture(beginning.picture, self.facts.frame_size)[None]
        return self._world.reset(frames=frames, seed=beginning.seed)


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


def _whole(rate: float | None) -> int | None:
    return None if rate is None else round(rate)
