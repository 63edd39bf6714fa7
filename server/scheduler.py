"""The clock of a server: once per period, one batched forward for everybody who plays.

Tick k is due at start + k * period. A tick that cannot begin within its period is dropped, counted
and never made up for. When one would not end in time, the dearest players get fewer flow steps
first, and their frames say so. Games on the step clock are computed as soon as their action is
there, where that delays nobody.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from worldsim.costs import Costs
from worldsim.server import protocol as wire
from worldsim.server.engine import Batch, Engine, Shown, Turn
from worldsim.server.game import Game
from worldsim.server.media import encode_picture, encode_sound
from worldsim.server.metrics import Metrics
from worldsim.server.outlet import Goodbye
from worldsim.ticker import Ticker

log = logging.getLogger("worldsim.server")

STALL = 4.0  # seconds without an ack while frames wait: the client is gone or stuck
STALLED, MODEL_FAILED = 4008, 1011  # close codes


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """What a tick shows one player, as bytes; `pictures` by quality."""

    pictures: dict[int, bytes]
    sound: bytes
    objects: bytes
    num_slots: int
    slot_size: int


class Scheduler:
    """Makes the ticks of all `games`, which it asks for anew each time."""

    def __init__(
        self,
        engine: Engine,
        costs: Costs,
        games: Callable[[], Iterable[Game]],
        period: float,
        metrics: Metrics,
    ) -> None:
        self._engine = engine
        self._costs = costs
        self._games = games
        self._period = period
        self._metrics = metrics
        self._changed = asyncio.Event()
        self._ticker: Ticker | None = None  # None while nobody plays

    def wake(self) -> None:
        """Something happened that may call for a tick: a start, an action, the end of an order."""
        self._changed.set()

    async def run(self) -> None:
        """Tick for as long as the server lives."""
        while True:
            self._changed.clear()
            now = time.monotonic()
            playing, stepped = self._who()
            if not playing:
                self._ticker = None
            elif self._ticker is None:
                self._ticker = Ticker(self._period, now)
            wait = None if self._ticker is None else self._ticker.due - now
            if stepped and (wait is None or self._costs.tick(len(stepped), 1) < wait):
                await self._tick(stepped, now, float("inf"))
            elif wait is None or wait > 0:
                await self._sleep(wait)
            else:
                assert self._ticker is not None
                await self._open_tick(self._ticker, stepped)

    def _who(self) -> tuple[list[Game], list[Game]]:
        """Games that move by themselves, and games of which one action waits for its tick."""
        games = list(self._games())
        playing = [game for game in games if game.is_playing()]
        stepped = [
            game
            for game in games
            if game.clock == "step" and game.is_stepped() and not game.is_claimed()
        ]
        return playing, stepped

    async def _sleep(self, seconds: float | None) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), seconds)

    async def _open_tick(self, ticker: Ticker, stepped: list[Game]) -> None:
        due = ticker.due
        playing = [game for game in self._who()[0] if not game.is_claimed()]
        if playing or stepped:
            left = due + self._period - time.monotonic()
            await self._tick([*playing, *stepped], due, left)
        else:
            await asyncio.sleep(0)
        dropped = ticker.finish(time.monotonic())
        for game in playing if dropped else ():
            game.miss(dropped)
            self._metrics.frames.labels("late").inc(dropped)
        for seat in (seat for game in playing for seat in game.seats):
            if seat.outlet.stalled() > STALL:
                seat.outlet.dismiss(Goodbye(STALLED, f"no ack for {STALL:g} s"))

    async def _tick(self, games: Sequence[Game], due: float, left: float) -> None:
        """One tick of `games`, which no order claims, `left` seconds before it is too late."""
        for game in games:
            await game.lock.acquire()  # free: it does not wait
        try:
            granted = self._costs.plan([game.steps for game in games], left)
            for steps in sorted(set(granted.values())):
                group = [game for game in games if granted[game.steps] == steps]
                await self._tick_together(group, steps, due)
        finally:
            for game in games:
                game.lock.release()

    async def _tick_together(self, games: list[Game], steps: int, due: float) -> None:
        began = time.monotonic()
        expected = self._costs.tick(len(games), steps)
        turns = [Turn(game.slot, game.choose) for game in games if game.slot is not None]
        batches = await self._engine.predict(turns, steps)
        failed = set(range(len(games)))
        for batch in batches:
            failed -= await self._finish(batch, [games[i] for i in batch.players], due)
        if not failed:
            self._costs.note(expected, time.monotonic() - began)
        for player in failed:
            self._fail(games[player])

    async def _finish(self, batch: Batch, games: list[Game], due: float) -> set[int]:
        """Send the frames of a batch while its memory is brought up to date; who is done."""
        wanted = [sorted({seat.quality for seat in game.seats}) for game in games]
        advancing = asyncio.ensure_future(self._engine.advance(batch))
        began = time.monotonic()
        encoded = await self._engine.aside(
            lambda: [
                _encode(shown, qualities) if shown and qualities else None
                for shown, qualities in zip(batch.shown, wanted, strict=True)
            ]
        )
        encode_ms = 1e3 * (time.monotonic() - began)
        for game, shown, parts in zip(games, batch.shown, encoded, strict=True):
            if shown is not None and parts is not None:
                self._show(game, batch, shown, parts, due, encode_ms)
        slots, trunk_ms = await advancing
        done = set()
        for player, game, slot in zip(batch.players, games, slots, strict=True):
            if slot is not None:
                game.remember(slot, trunk_ms)
                done.add(player)
        return done

    def _show(
        self, game: Game, batch: Batch, shown: Shown, parts: Encoded, due: float, encode_ms: float
    ) -> None:
        flags = wire.AI_GENERATED | (wire.ALARM if shown.is_alarm else 0)
        if batch.steps < game.steps:
            flags |= wire.DEGRADED
            self._metrics.degraded.inc()
        height, width = shown.frame.shape[:2]
        frame = wire.Frame(
            number=0,  # the game counts
            action_seq=shown.seq,
            flags=flags,
            missed=game.missed,
            width=width,
            height=height,
            due_us=int(1e6 * due),
            wait_ms=1e3 * (batch.began - due),
            predict_ms=batch.predict_ms,
            head_ms=batch.head_ms,
            decode_ms=batch.decode_ms,
            encode_ms=encode_ms,
            trunk_ms=game.trunk_ms,
            sound=parts.sound,
            objects=parts.objects,
            num_slots=parts.num_slots,
            slot_size=parts.slot_size,
        )
        acted = game.show(frame, shown, parts.pictures)
        stages = self._metrics.frame_seconds
        stages.labels("model").observe(1e-3 * batch.predict_ms)
        stages.labels("encode").observe(1e-3 * encode_ms)
        if acted is not None:
            self._metrics.action_to_frame.observe(time.monotonic() - acted)

    def _fail(self, game: Game) -> None:
        self._metrics.failures.inc()
        goes_on = game.fail()
        if game.driver is None:
            return
        outlet = game.driver.outlet
        outlet.tell(wire.Error(code="model", message="the world failed and starts again"))
        if goes_on:
            outlet.tell(wire.Started(game.seed, game.clock, game.number))
        else:
            outlet.dismiss(Goodbye(MODEL_FAILED, "the model keeps failing"))


def _encode(shown: Shown, qualities: Sequence[int]) -> Encoded:
    slots = None if shown.objects is None else np.asarray(shown.objects, "<f4")
    return Encoded(
        pictures={quality: encode_picture(shown.frame, quality) for quality in qualities},
        sound=b"" if shown.sound is None else encode_sound(shown.sound),
        objects=b"" if slots is None else slots.tobytes(),
        num_slots=0 if slots is None else slots.shape[0],
        slot_size=0 if slots is None else slots.shape[1],
    )
