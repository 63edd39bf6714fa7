"""What a driver orders: each is carried out between two ticks of its game, then answered.

Whatever takes long and needs no model (unpacking a picture, packing a snapshot) happens outside of
that moment and on a thread aside, so that it delays nobody.
"""

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from worldsim.errors import CheckpointError
from worldsim.server import protocol as wire
from worldsim.server.game import Game, Refused, Seat
from worldsim.server.lobby import KEPT, Lobby
from worldsim.server.media import fit_picture
from worldsim.server.outlet import Outlet
from worldsim.server.recorder import Recorder, Subject
from worldsim.server.upload import UploadSlot

if TYPE_CHECKING:
    from worldsim.state import WorldState

log = logging.getLogger("worldsim.server")


@dataclass
class Orders:
    """The orders of one connection."""

    lobby: Lobby
    outlet: Outlet
    seat: Seat
    uploads: UploadSlot
    downloads: int = 0

    async def carry_out(self, game: Game, order: wire.Request) -> None:
        """Do it and answer; raises Refused."""
        match order:
            case wire.Start():
                await self._start(game, order)
            case wire.Save():
                await self._save(game, order)
            case wire.Load():
                await self._load(game, order)
            case wire.Rewind(ticks):
                async with game.still():
                    undone = game.rewind(ticks)
                self.outlet.tell(wire.Rewound(ticks=undone, frame=game.number))
            case wire.Fork():
                async with game.still():
                    other = self.lobby.fork(game)
                self.outlet.tell(wire.Forked(resume=other.resume, seconds=KEPT))
            case wire.Record(on):
                await self._record(game, on)

    def look(self, start: wire.Start) -> None:
        """The settings of a `start`, as far as they are the connection's own."""
        if start.quality is not None:
            self.seat.quality = start.quality
        if start.sound is not None:
            self.seat.has_sound = start.sound
        if start.objects is not None:
            self.seat.has_objects = start.objects

    async def _start(self, game: Game, start: wire.Start) -> None:
        prepared = await self._prepare(start)
        async with game.still():
            if not start.keep or game.slot is None:
                game.begin(await self._origin(game, start, prepared), start.seed)
            else:
                game.restart()
            game.clock = start.clock
            game.steps = start.k or game.steps
            self.look(start)
            self.outlet.tell(wire.Started(start.seed, start.clock, game.number))

    async def _prepare(self, start: wire.Start) -> "NDArray[np.uint8] | WorldState | None":
        """What was uploaded for the start: a picture (H, W, 3), or a state."""
        if start.upload is None:
            return None
        if self.uploads.kind(start.upload) == "snapshot":
            return await self._restore(start.upload)
        data = self.uploads.find(start.upload, "picture")
        size = self.lobby.engine.world.frame_size
        try:
            return await asyncio.to_thread(fit_picture, data, size)
        except ValueError as error:
            raise Refused("bad_picture", str(error)) from error

    async def _origin(
        self, game: Game, start: wire.Start, prepared: "NDArray[np.uint8] | WorldState | None"
    ) -> "WorldState":
        if start.save is not None:
            return game.saved(start.save)
        if prepared is None or isinstance(prepared, np.ndarray):
            return await self.lobby.engine.reset(seed=start.seed, frame=prepared)
        return prepared

    async def _save(self, game: Game, save: wire.Save) -> None:
        async with game.still():
            state = game.save(save.name)
        frame = max(0, game.number - 1)
        if not save.download:
            self.outlet.tell(wire.Saved(name=save.name, frame=frame))
            return
        data = await asyncio.to_thread(self.lobby.engine.world.snapshot, state)
        self.downloads += 1
        answer = wire.Saved(name=save.name, frame=frame, download=self.downloads, size=len(data))
        self.outlet.tell(answer)
        self.outlet.offer(self.downloads, data)

    async def _load(self, game: Game, load: wire.Load) -> None:
        uploaded = None if load.upload is None else await self._restore(load.upload)
        async with game.still():
            game.load(game.saved(load.name) if uploaded is None else uploaded)
            self.outlet.tell(wire.Loaded(frame=game.number))

    async def _restore(self, number: int) -> "WorldState":
        data = self.uploads.find(number, "snapshot")
        try:
            return await asyncio.to_thread(self.lobby.engine.restore, data)
        except CheckpointError as error:
            raise Refused("bad_snapshot", str(error)) from error

    async def _record(self, game: Game, on: bool) -> None:
        if self.lobby.recordings is None:
            raise Refused("not_supported", "this server keeps no recordings")
        if on and game.recorder is None:
            game.recorder = self._new_recorder(game, asyncio.get_running_loop())
        elif not on and game.recorder is not None:
            recorder, game.recorder = game.recorder, None
            await asyncio.to_thread(recorder.stop)
            self.outlet.tell(wire.Recording(on=False, name=recorder.name))
            return
        name = None if game.recorder is None else game.recorder.name
        self.outlet.tell(wire.Recording(on=on, name=name))

    def _new_recorder(self, game: Game, loop: asyncio.AbstractEventLoop) -> Recorder:
        world = self.lobby.engine.world
        assert self.lobby.recordings is not None
        subject = Subject(
            world=world.name,
            world_hash=world.hash,
            game=game.id,
            seed=game.seed,
            fps=self.lobby.rate,
            size=world.frame_size,
            sample_rate=world.sample_rate,
            controls=list(world.actions),
            signer=self.lobby.signer,
            axes=[axis.name for axis in world.axes],
        )

        def gave_up(reason: str) -> None:
            loop.call_soon_threadsafe(_tell_the_end, game, loop, reason)

        try:
            return Recorder(self.lobby.recordings, subject, gave_up)
        except OSError as error:
            raise Refused("recording", f"nothing can be written: {error.strerror}") from error


def _tell_the_end(game: Game, loop: asyncio.AbstractEventLoop, reason: str) -> None:
    log.error("a recording ended", extra={"game": game.id, "reason": reason})
    recorder, game.recorder = game.recorder, None
    if recorder is not None:
        loop.run_in_executor(None, recorder.stop)
    if game.driver is not None:
        message = f"the recording ended, the game goes on: {reason}"
        game.driver.outlet.tell(wire.Error(code="recording", message=message))
