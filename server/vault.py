"""The last saves of games, in a folder that several servers share, so that a game outlives its own.

Each server touches NAME.beat every second. A game is saved every few seconds, in a file that is
named by the sha256 of its token: a line of JSON, then the snapshot. When a beat has been silent for
a while, whoever is asked for a game of that server takes its save over: the file can be renamed
only once. Times are those of the file system, so that no two clocks have to agree.
"""

import asyncio
import hashlib
import logging
import os
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from worldsim.errors import CheckpointError
from worldsim.server import protocol as wire
from worldsim.server.engine import Engine
from worldsim.server.game import Game
from worldsim.slots import Slot

if TYPE_CHECKING:
    from worldsim.state import WorldState

log = logging.getLogger("worldsim.server")

BEAT, SILENT = 1.0, 4.0  # seconds between two beats; without one until a server counts as gone
FORGOTTEN = 600.0  # seconds until what nobody came back for is deleted
SAVE, ALIVE, DRAFT = ".save", ".beat", ".draft"
NAME = re.compile(r"[0-9A-Za-z]{1,16}")  # of a server: it becomes a file's


class Kept(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a save says about its game beside the state."""

    format_version: int = 1
    seed: int
    clock: wire.Clock
    steps: int


class Vault:
    """The folder, as the server `name` sees it. Every method reads or writes the disk."""

    def __init__(self, folder: Path, name: str) -> None:
        """Raises OSError if nothing can be written there."""
        assert NAME.fullmatch(name)
        self._folder = folder
        self._own = folder / (name + ALIVE)
        folder.mkdir(parents=True, exist_ok=True)
        self.beat()

    def beat(self) -> None:
        """This server lives."""
        self._own.touch()

    def leave(self) -> None:
        """This server ends: its games are everybody's."""
        self._own.unlink(missing_ok=True)

    def is_alive(self, name: str) -> bool:
        """Whether the server of that name lives; a name comes from outside and may be anything."""
        beat = self._folder / (name + ALIVE)
        return bool(NAME.fullmatch(name)) and self._age(beat) < SILENT

    def write(self, token: str, kept: Kept, snapshot: bytes) -> None:
        """Keep the save of a game, in place of an older one."""
        path = self._path(token)
        draft = path.with_suffix(DRAFT)
        draft.write_bytes(msgspec.json.encode(kept) + b"\n" + snapshot)
        os.replace(draft, path)

    def refresh(self, token: str) -> None:
        """The save of a game that stands still is not forgotten."""
        self._path(token).touch()

    def claim(self, token: str) -> tuple[Kept, bytes, float] | None:
        """Take a save over: what it says, the snapshot, and its age in seconds; None: there is
        none, or another server has just taken it. Raises CheckpointError for one that is broken."""
        path, mine = self._path(token), self._own.with_suffix(DRAFT)
        self.beat()
        age = max(0.0, self._age(path))
        try:
            os.rename(path, mine)
        except FileNotFoundError:
            return None
        line, _, snapshot = mine.read_bytes().partition(b"\n")
        mine.unlink()
        try:
            return msgspec.json.decode(line, type=Kept), snapshot, age
        except msgspec.MsgspecError as error:
            raise CheckpointError(f"{path}: not a save of a game: {error}") from error

    def forget(self, token: str) -> None:
        """The game is over."""
        self._path(token).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Delete what nobody came back for."""
        for path in self._folder.iterdir():
            if path.suffix in (SAVE, ALIVE, DRAFT) and FORGOTTEN < self._age(path) < float("inf"):
                path.unlink(missing_ok=True)

    def _path(self, token: str) -> Path:
        return self._folder / (hashlib.sha256(token.encode()).hexdigest() + SAVE)

    def _age(self, path: Path) -> float:
        """Seconds before our last beat that a file was written; infinite for none."""
        try:
            return self._own.stat().st_mtime - path.stat().st_mtime
        except FileNotFoundError:
            return float("inf")


class Keeper:
    """Saves the games of a server while it runs."""

    def __init__(
        self, vault: Vault, engine: Engine, games: Callable[[], Iterable[Game]], every: float
    ) -> None:
        """`every`: seconds between two saves of a game."""
        self.vault = vault
        self._engine = engine
        self._games = games
        self._every = every

    async def run(self) -> None:
        """Beat and save for as long as the server lives."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._beat())
            tasks.create_task(self._save_all_again_and_again())

    async def finish(self) -> None:
        """The server stops as it should: nothing is lost, nobody has to wait for its silence."""
        await self._save_all()
        await self._try(self.vault.leave)

    def forget(self, game: Game) -> None:
        """The game is over; so is its save."""
        if game.kept[0]:
            with suppress(OSError):  # `sweep` finds it
                self.vault.forget(game.kept[0])

    async def save(self, game: Game) -> None:
        """Keep the present moment of a game; a full disk costs the save, not the game."""
        token, slot = game.resume, game.slot
        if slot is None:
            return
        kept = Kept(seed=game.seed, clock=game.clock, steps=game.steps)
        before, before_slot = game.kept
        try:
            if token == before and slot is before_slot:
                await asyncio.to_thread(self.vault.refresh, token)
                return
            await asyncio.to_thread(self._write, token, kept, slot)
            game.kept = token, slot
            if before not in ("", token):
                await asyncio.to_thread(self.vault.forget, before)
        except OSError as error:
            log.error("a game was not saved", extra={"game": game.id, "reason": error.strerror})

    async def claim(self, token: str) -> "tuple[Kept, WorldState, float] | None":
        """The save of a game whose server is gone, now ours; None: there is none."""
        try:
            found = await asyncio.to_thread(self.vault.claim, token)
            if found is None:
                return None
            kept, snapshot, age = found
            return kept, await asyncio.to_thread(self._engine.restore, snapshot), age
        except (CheckpointError, OSError) as error:
            log.error("a save cannot be used", extra={"reason": str(error)})
            return None

    def _write(self, token: str, kept: Kept, slot: Slot) -> None:
        self.vault.write(token, kept, self._engine.world.snapshot(slot.alone()))

    async def _beat(self) -> None:
        while True:
            await self._try(self.vault.beat)
            await asyncio.sleep(BEAT)

    async def _save_all_again_and_again(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            await self._save_all()
            await self._try(self.vault.sweep)

    async def _try(self, call: Callable[[], None]) -> None:
        try:
            await asyncio.to_thread(call)
        except OSError as error:  # others think that we are gone; the games here go on
            log.error("the folder of saves fails", extra={"reason": error.strerror})

    async def _save_all(self) -> None:
        for game in list(self._games()):
            await self.save(game)
