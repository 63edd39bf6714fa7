"""One world that is being played: its state, its past, and who sits at it.

A game has one driver and any number of viewers. Its state is touched by a tick of the scheduler or
by an order of the driver (start, load, rewind, ...), never by both: see `still`.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from worldsim.axes import Action
from worldsim.history import History
from worldsim.server import protocol as wire
from worldsim.server.engine import Shown
from worldsim.server.flow import Mailbox
from worldsim.server.media import QUALITY
from worldsim.server.outlet import Outlet
from worldsim.slots import Slot

if TYPE_CHECKING:
    from worldsim.server.recorder import Recorder
    from worldsim.state import WorldState

MAX_SAVES = 8  # states kept by name
MAX_FAILURES = 3  # of the model in a row


class Refused(Exception):
    """The client asked for something that cannot be done; the session goes on."""

    def __init__(self, code: str, message: str, path: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.path = path  # of the wrong field, if there is one


@dataclass(eq=False)
class Seat:
    """One connection's place at a game, and what it wants to be sent."""

    outlet: Outlet
    greet: Callable[[], None]  # tells the client what it is now: driver or viewer
    quality: int = QUALITY
    has_sound: bool = True
    has_objects: bool = True

    def post(self, frame: wire.Frame, pictures: Mapping[int, bytes]) -> None:
        """Send the frame as this client wants it; `pictures` by quality."""
        picture = pictures.get(self.quality) or next(iter(pictures.values()))
        frame = replace(frame, picture=picture)
        if not self.has_sound:
            frame = replace(frame, sound=b"")
        if not self.has_objects:
            frame = replace(frame, objects=b"", num_slots=0, slot_size=0)
        self.outlet.post(frame)


class Game:
    """A world, the only one that its players know."""

    def __init__(self, prefix: str, *, idle_action: Action, steps: int, history: History) -> None:
        """`prefix` is how its id and its tokens begin, `idle_action` what nobody at the controls
        does, `steps` the flow steps at first."""
        self._prefix = prefix
        self.id = prefix + secrets.token_urlsafe(9)
        self.resume = self._new_token()
        self.kept: tuple[str, Slot | None] = ("", None)  # its last save: under which token, of what
        self.restored: float | None = None  # seconds: age of the save that it goes on from
        self.fork = ""  # id of the game that was last made of this one
        self.steps = steps
        self.clock: wire.Clock = "open"
        self.seed = 0
        self.driver: Seat | None = None
        self.viewers: list[Seat] = []
        self.asking: list[Seat] = []  # viewers who want the controls, in order
        self.mailbox = Mailbox(idle_action)
        self.slot: Slot | None = None  # the state; None before the first start
        self.saves: dict[str, WorldState] = {}
        self.history = history
        self.ticks = 0  # since the beginning, as rewinding counts them
        self.number = 0  # of the next frame
        self.missed = 0  # ticks, since the last start or load
        self.trunk_ms = 0.0
        self.recorder: Recorder | None = None
        self.lock = asyncio.Lock()  # held by a tick, or by an order
        self._claims = 0
        self._idle_action = idle_action
        self._origin: WorldState | None = None  # what a failed world goes back to
        self._flags = 0  # of the next frame, beside those that it brings itself
        self._done_seq = 0  # newest action that a tick has used
        self._acted = 0.0  # when the action of the tick under way came
        self._failures = 0

    # Who is here -----------------------------------------------------------------------------

    @property
    def seats(self) -> list[Seat]:
        """Every connection."""
        return self.viewers if self.driver is None else [self.driver, *self.viewers]

    def drive(self, seat: Seat) -> None:
        """`seat` takes the controls, which must be free."""
        assert self.driver is None
        self.driver = seat
        self.mailbox = Mailbox(self._idle_action)  # a new driver counts from 1, and holds no key
        self._done_seq = 0

    def ask(self, seat: Seat) -> None:
        """A viewer wants the controls: now if they are free, else when the driver gives them up."""
        if self.driver is not None:
            if seat not in self.asking:
                self.asking.append(seat)
            self.driver.greet()
            seat.greet()
            return
        self.viewers.remove(seat)
        self._hand_to(seat)

    def give_up(self) -> None:
        """The driver becomes a viewer; who asked first drives. The old token is worth nothing."""
        assert self.driver is not None
        seat, self.driver = self.driver, None
        self.viewers.append(seat)
        if not self._next_driver():
            self.resume = self._new_token()
        seat.greet()

    def leave(self, seat: Seat) -> None:
        """A connection is over."""
        if seat in self.asking:
            self.asking.remove(seat)
        if seat is not self.driver:
            self.viewers.remove(seat)
            return
        self.driver = None
        self._next_driver()

    def _next_driver(self) -> bool:
        if not self.asking:
            return False
        seat = self.asking.pop(0)
        self.viewers.remove(seat)
        self._hand_to(seat)
        return True

    def _hand_to(self, seat: Seat) -> None:
        self.resume = self._new_token()
        self.drive(seat)
        seat.greet()

    def _new_token(self) -> str:
        return self._prefix + secrets.token_urlsafe(24)

    # What the driver orders, each inside `still` ---------------------------------------------

    @asynccontextmanager
    async def still(self) -> AsyncIterator[None]:
        """No tick of this game is under way, nor will one begin, for the length of the `with`."""
        self._claims += 1
        try:
            async with self.lock:
                yield
        finally:
            self._claims -= 1

    def begin(self, state: "WorldState", seed: int) -> None:
        """Another story, from `state` on."""
        self._origin, self.seed = state, seed
        self._put(state)
        self._flags |= wire.RESET

    def load(self, state: "WorldState") -> None:
        """Go on from `state`."""
        self._origin = self._origin or state
        self._put(state)

    def save(self, name: str) -> "WorldState":
        """Keep the present state under `name`."""
        state = self.present()
        if name not in self.saves and len(self.saves) >= MAX_SAVES:
            raise Refused("too_many", f"at most {MAX_SAVES} saved states, by name")
        self.saves[name] = state
        return state

    def saved(self, name: str) -> "WorldState":
        """The state kept under `name`."""
        if name not in self.saves:
            raise Refused("not_found", f"nothing was saved as {name!r} in this game")
        return self.saves[name]

    def present(self) -> "WorldState":
        """The state now, by itself."""
        if self.slot is None:
            raise Refused("not_started", "there is no world yet: send start first")
        return self.slot.alone()

    def rewind(self, ticks: int) -> int:
        """Undo at least `ticks`, as few more as the spacing of the past allows; how many."""
        self.present()
        found = self.history.at(self.ticks - ticks)
        if found is None:
            oldest = self.history.oldest()
            reach = 0 if oldest is None else self.ticks - oldest
            raise Refused("not_found", f"only the last {reach} ticks are remembered, not {ticks}")
        tick, state = found
        undone, self.ticks = self.ticks - tick, tick
        self.slot = Slot(state, 0)
        self.restart()
        return undone

    def restart(self) -> None:
        """Time begins anew: what an order took is no missed tick, older frames are void."""
        self._done_seq = self.mailbox.seq
        self.missed = 0
        for seat in self.seats:
            seat.outlet.discard()
        if self.recorder is not None:
            self.recorder.cut()

    def copy_to(self, other: "Game") -> None:
        """The same present and the same saves for another game, which goes its own way."""
        other.steps, other.clock = self.steps, self.clock
        other.begin(self.present(), self.seed)
        other.saves = dict(self.saves)

    def _put(self, state: "WorldState") -> None:
        self.slot = Slot(state, 0)
        self.ticks = 0
        self.history.clear()
        self.history.keep(0, self.slot)
        self.restart()

    # Ticks -----------------------------------------------------------------------------------

    def is_playing(self) -> bool:
        """Whether the world moves by itself, every tick."""
        return self.driver is not None and self.slot is not None and self.clock == "open"

    def is_stepped(self) -> bool:
        """Whether an action waits for its tick, on a clock that waits for actions."""
        has_action = self.mailbox.seq > self._done_seq
        return self.driver is not None and self.slot is not None and has_action

    def is_claimed(self) -> bool:
        """Whether an order waits or is carried out."""
        return self._claims > 0

    def choose(self) -> tuple[int, Action]:
        """(seq, action): the newest action, for the tick that begins now."""
        seq, action, self._acted = self.mailbox.read()
        return seq, action

    def miss(self, ticks: int) -> None:
        """So many ticks could not begin in their time."""
        self.missed += ticks
        self._flags |= wire.DEGRADED

    def show(self, frame: wire.Frame, shown: Shown, pictures: Mapping[int, bytes]) -> float | None:
        """Send one frame to everybody; when the action came that it is the first to reflect."""
        frame = replace(frame, number=self.number, flags=frame.flags | self._flags)
        self.number += 1
        self._flags = 0
        for seat in self.seats:
            seat.post(frame, pictures)
        if self.recorder is not None:
            self.recorder.add(shown)
        is_new = shown.seq > self._done_seq
        self._done_seq = max(self._done_seq, shown.seq)
        return self._acted if is_new else None

    def remember(self, slot: Slot, trunk_ms: float) -> None:
        """The tick is over."""
        self.slot, self.trunk_ms = slot, trunk_ms
        self.ticks += 1
        self._failures = 0
        if self.history.is_due(self.ticks):
            self.history.keep(self.ticks, slot)

    def fail(self) -> bool:
        """The model failed at this game: back to its beginning. False if it keeps failing."""
        assert self._origin is not None
        self._failures += 1
        self.begin(self._origin, self.seed)
        return self._failures < MAX_FAILURES
