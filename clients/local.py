"""A game in this process: the world predicts, the picture is shown, then the world remembers."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from worldsim.axes import Action
from worldsim.clients.source import Beginning, Facts, Picture
from worldsim.history import History
from worldsim.server.media import fit_picture
from worldsim.slots import Slot, num_bytes
from worldsim.ticker import Ticker

if TYPE_CHECKING:
    from worldsim.output import Prediction
    from worldsim.state import WorldState
    from worldsim.world import World

PAST = 256 * 1024 * 1024  # bytes of the states that a game can be rewound to


class LocalSource:
    """A world in this process: predict, show, then advance."""

    def __init__(self, world: "World", beginning: Beginning) -> None:
        """Raises ValueError for a picture, CheckpointError for a snapshot that is none."""
        self.facts = Facts(
            name=world.name,
            hash=world.hash,
            fps=world.fps,
            sample_rate=None if world.sample_rate is None else round(world.sample_rate),
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
