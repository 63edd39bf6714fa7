"""Which games there are: those that are played, and those that wait to be taken up again.

A place is a game that somebody plays; how many there are was measured. A game whose driver is gone
is kept for a minute without a place: the state stays, the world stands still.
"""

import asyncio
import secrets
from pathlib import Path

from worldsim.history import History
from worldsim.server import protocol as wire
from worldsim.server.engine import Engine
from worldsim.server.game import Game, Refused, Seat
from worldsim.server.metrics import Metrics
from worldsim.server.outlet import Goodbye
from worldsim.server.vault import Keeper
from worldsim.signing import Signer

KEPT = 60.0  # seconds that a game without a driver is kept
MAX_WAITING = 8  # games without anybody; the one that has waited longest goes first
OVER, TAKEN_OVER = 1000, 4002  # close codes


class Lobby:
    """All games of a server."""

    def __init__(
        self, engine: Engine, metrics: Metrics, *, rate: float, recordings: Path | None
    ) -> None:
        """`rate`: ticks per second. `recordings`: where they go; None: there are none."""
        self.engine = engine
        self.metrics = metrics
        self.rate = rate
        self.recordings = recordings
        self.signer: Signer | None = None  # of recordings
        self.max_waiting = MAX_WAITING
        self.name = ""  # of this server among several
        self.keeper: Keeper | None = None
        self.games: dict[str, Game] = {}
        self._expiries: dict[str, asyncio.TimerHandle] = {}  # in the order in which they began

    @property
    def places_taken(self) -> int:
        """Games that somebody plays or watches."""
        return sum(bool(game.seats) for game in self.games.values())

    @property
    def viewers(self) -> int:
        """Connections that only watch."""
        return sum(len(game.viewers) for game in self.games.values())

    def history(self) -> History:
        """An empty past of the right size."""
        return History(rate=self.rate, state_bytes=self.engine.state_bytes)

    def open(self) -> Game:
        """A game that has not begun."""
        world = self.engine.world
        game = Game(
            self._prefix,
            idle_action=world.idle_action,
            steps=world.flow_steps,
            history=self.history(),
        )
        self.games[game.id] = game
        self._count()
        return game

    def drive(self, game: Game, seat: Seat) -> None:
        """`seat` sits down at the controls of `game`."""
        game.drive(seat)
        self._keep(game)

    def watch(self, game: Game, seat: Seat) -> None:
        """`seat` looks on."""
        game.viewers.append(seat)
        self._count()

    async def resume(self, token: str, seat: Seat) -> Game:
        """`seat` takes up the game with this token; whoever drives it with the same one goes.

        A game of a server that is gone goes on here, from its last save, with another token.
        Raises Refused if there is none.
        """
        if await asyncio.to_thread(self.is_elsewhere, token):
            raise Refused("elsewhere", "another worker has that game; connect again")
        game = self._find(token) or await self._revive(token)
        if game is None:
            raise Refused("not_found", "no game waits for this token; it may have been too long")
        if game.driver is seat:
            return game
        if seat in game.seats:
            game.leave(seat)  # it has only watched so far
        if game.driver is not None:
            old, game.driver = game.driver, None
            old.outlet.dismiss(Goodbye(TAKEN_OVER, "the game is played from elsewhere now"))
        self.drive(game, seat)
        return game

    def is_elsewhere(self, name: str) -> bool:
        """Whether an id or a token is of another server, which lives, as far as we can know."""
        if name.startswith(self._prefix):
            return False
        return self.keeper is None or self.keeper.vault.is_alive(name.partition("-")[0])

    @property
    def _prefix(self) -> str:
        return f"{self.name}-" if self.name else ""

    def _find(self, token: str) -> Game | None:
        for game in self.games.values():
            if secrets.compare_digest(game.resume.encode(), token.encode()):
                return game
        return None

    async def _revive(self, token: str) -> Game | None:
        found = None if self.keeper is None else await self.keeper.claim(token)
        if self.keeper is None or found is None:
            return None
        kept, state, age = found
        game = self.open()
        game.clock, game.steps, game.restored = kept.clock, kept.steps, age
        game.begin(state, kept.seed)
        await self.keeper.save(game)
        return game

    def fork(self, game: Game) -> Game:
        """A second game with the same present, waiting for whoever has its token.

        One waits per game: an older one that nobody took up is gone.
        """
        unclaimed = self.games.get(game.fork)
        if unclaimed is not None and unclaimed.id in self._expiries and not unclaimed.seats:
            self._remove(unclaimed)
        other = self.open()
        try:
            game.copy_to(other)
        except Refused:
            self._remove(other)
            raise
        game.fork = other.id
        self._expire_later(other)
        return other

    def leave(self, game: Game, seat: Seat) -> None:
        """A connection is over, or sits elsewhere now; a game without a driver waits a while."""
        if seat in game.seats:
            game.leave(seat)
        if game.slot is None and not game.seats:
            self._remove(game)  # it never began
        elif game.id in self.games:
            self.settle(game)
        self._count()

    async def settled(self) -> None:
        """Wait for the ticks that are under way: whose frame was seen, that moment is not lost."""
        for game in list(self.games.values()):
            async with game.still():
                pass

    async def end_recordings(self) -> None:
        """Finish all files."""
        for game in self.games.values():
            if game.recorder is not None:
                recorder, game.recorder = game.recorder, None
                await asyncio.to_thread(recorder.stop)

    def settle(self, game: Game) -> None:
        """The seats of `game` have changed: it waits for a driver, or it no longer does."""
        if game.driver is None:
            self._expire_later(game)
        else:
            self._keep(game)

    def _keep(self, game: Game) -> None:
        expiry = self._expiries.pop(game.id, None)
        if expiry is not None:
            expiry.cancel()
        self._count()

    def _expire_later(self, game: Game) -> None:
        self._keep(game)
        loop = asyncio.get_running_loop()
        self._expiries[game.id] = loop.call_later(KEPT, self._expire, game)
        waiting = [one for one in self._expiries if not self.games[one].seats]
        for oldest in waiting[: max(0, len(waiting) - self.max_waiting)]:
            self._expire(self.games[oldest])

    def _expire(self, game: Game) -> None:
        self._remove(game)
        for seat in game.seats:
            seat.outlet.dismiss(Goodbye(OVER, "nobody came back to the game"))

    def _remove(self, game: Game) -> None:
        self._keep(game)
        self.games.pop(game.id, None)
        if self.keeper is not None:
            self.keeper.forget(game)
        if game.recorder is not None:
            recorder, game.recorder = game.recorder, None
            asyncio.get_running_loop().run_in_executor(None, recorder.stop)
        self._count()

    def _count(self) -> None:
        self.metrics.games.set(self.places_taken)


def welcome_of(lobby: Lobby, game: Game, seat: Seat, *, agent: str, window: int) -> wire.Welcome:
    """What a connection at `game` is told about it."""
    world = lobby.engine.world
    height, width = world.frame_size
    is_driver = seat is game.driver
    return wire.Welcome(
        protocol=wire.VERSION,
        agent=agent,
        world=world.name,
        hash=world.hash,
        width=width,
        height=height,
        rate=lobby.rate,
        sample_rate=world.sample_rate,
        actions=world.actions,
        bindings=world.bindings,
        axes=[wire.Axis(axis.name, axis.low, axis.high) for axis in world.axes],
        window=window,
        game=game.id,
        role="driver" if is_driver else "viewer",
        resume=game.resume if is_driver else None,
        viewers=len(game.viewers),
        asking=len(game.asking),
        rewind=game.history.seconds,
        can_record=lobby.recordings is not None,
        restored=game.restored,
    )
