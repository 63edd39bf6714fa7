"""`worldsim play`: walk around in a world, in a window or headless."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from worldsim.backends.names import Backend
from worldsim.commands.sign import SignFlag, signer_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from worldsim.clients.source import Beginning, Source
    from worldsim.signing import Signer

SCRIPTED_SECONDS = 60.0
CLIP = Path("worldsim-play.mp4")


@dataclass(frozen=True, kw_only=True)
class Play:
    """Walk around in a world.

    Arrows or WASD move, space fires, key 1 is code 0, key 2 code 1, and so on. R begins again, P
    pauses, N makes one tick while paused, F5 saves the world, F9 loads the newest save, Backspace
    goes back in time while it is held, F6 opens a second view from the same moment (F7 hands the
    keys over), Tab shows objects, M mutes, B binds keys to codes, F12 saves a picture, Escape
    leaves. In a world with axes, arrows, the dragged mouse and a gamepad's stick move the first
    two, space and left control the third, E and Q the fourth. Without a display a script plays a
    minute and the clip is written.
    """

    world: Annotated[str, tyro.conf.Positional] = "doom-hall"
    """Name of a world that ships with the package, or the folder of one."""
    server: str | None = None
    """Play on a server instead: its address, such as ws://127.0.0.1:8765."""
    token: str | None = None
    """The server's token. Default: the environment variable WORLDSIM_TOKEN, or none."""
    start: Path | None = None
    """Picture to start from, fitted into the frame with black bars. Default: the world's own."""
    load: Path | None = None
    """Snapshot to start from (a saved game, *.wsave)."""
    seed: int = 0
    """Of what the world makes up by itself."""
    headless: bool = False
    """No window: a script plays, as fast as it can, and a clip is written."""
    frames: int | None = None
    """Stop after so many frames. Default: never; headless, the script's length or a minute."""
    keys: Path | None = None
    """Script of a headless game: lines `CONTROL TICKS`. Default: the package's own."""
    out: Path | None = None
    """Clip to write, mp4. Default: none with a window, worldsim-play.mp4 headless."""
    sign: SignFlag = None
    """Sign clips and pictures (C2PA) with a certificate chain and its key, two PEM files."""
    k: Literal[1, 2, 4] | None = None
    """Flow steps per frame: 1 is fast, 4 is good. Default: 2, or as the mode says. On a server, its
    own choice."""
    mode: Literal["fast", "interactive", "quality"] | None = None
    """fast: 1 flow step. quality: 4. interactive: 4, or fewer when a frame would be late (--k gives
    another number than 4). Default: 2, whatever the time."""
    device: str = "cpu"
    """Where the model runs: cpu or cuda."""
    backend: Backend = "auto"
    """What computes the ticks; auto: what `worldsim doctor --probe` found quickest here."""
    reanchor: bool = False
    """Go on from a frame of the footage when the picture has fallen apart. On a server that is
    for `worldsim serve` to say."""

    def __post_init__(self) -> None:
        if self.frames is not None and self.frames < 1:
            raise ValueError(f"frames must be at least 1, got {self.frames}")
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed}")
        if self.out is not None and self.out.suffix.lower() != ".mp4":
            raise ValueError(f"out is a clip, whose name ends in .mp4, got {self.out}")
        if self.start is not None and self.load is not None:
            raise ValueError("a game starts from a picture or from a snapshot, not both")

    def run(self) -> int:
        """Play; 0 at the end of the game."""
        from worldsim.cli import say

        began = time.perf_counter()

        def on_first() -> None:
            say(f"first frame after {time.perf_counter() - began:.1f} s")

        signer = signer_of(self.sign)
        why = None if self.headless else _why_no_window()
        if why is not None:
            say(f"{why}; a script plays headless instead")
        source = self._source()
        try:
            if self.headless or why is not None:
                self._play_script(source, on_first, signer)
            else:
                self._play_window(source, on_first, signer)
        finally:
            source.close()
        return 0

    def _source(self) -> "Source":
        from worldsim.clients.local import LocalSource
        from worldsim.clients.remote import RemoteSource
        from worldsim.errors import DataError

        beginning = self._beginning()
        try:
            if self.server is not None:
                from worldsim.clients.sync_client import Client

                token = self.token or os.environ.get("WORLDSIM_TOKEN") or None
                return RemoteSource(Client.connect(self.server, token=token), beginning)
            from worldsim.runtime import prepare

            prepare(threads=1)
            from worldsim.world import World

            world = World.load(
                self.world,
                device=self.device,
                flow_steps=self.k,
                mode=self.mode,
                backend=self.backend,
                reanchor=self.reanchor,
            )
            return LocalSource(world, beginning)
        except ValueError as error:
            opened = self.start or self.load
            raise DataError(f"{opened}: {error}" if opened else str(error)) from error

    def _beginning(self) -> "Beginning":
        from worldsim.clients.source import Beginning

        picture = None if self.start is None else _read(self.start)
        snapshot = None if self.load is None else _read(self.load)
        return Beginning(seed=self.seed, picture=picture, snapshot=snapshot)

    def _play_script(
        self, source: "Source", on_first: "Callable[[], None]", signer: "Signer | None"
    ) -> None:
        from worldsim.cli import say
        from worldsim.clients import script
        from worldsim.clients.headless import play_script

        facts = source.facts
        if self.keys is None:
            plan = script.built_in(facts.bindings, facts.num_actions, facts.fps, facts.axes)
            frames = self.frames or round(SCRIPTED_SECONDS * facts.fps)
        else:
            plan = script.read_script(self.keys, facts.bindings, facts.axes)
            frames = self.frames or script.length(plan)
        clip = self.out or CLIP
        played = play_script(
            source, plan, frames=frames, clip=clip, on_first=on_first, signer=signer
        )
        say(f"wrote {clip}: {played.line()}")

    def _play_window(
        self, source: "Source", on_first: "Callable[[], None]", signer: "Signer | None"
    ) -> None:
        from worldsim.clients.game import Game
        from worldsim.clients.window import Window

        window = Window(source.facts)
        try:
            game = Game(source, window, on_first=on_first, folder=Path.cwd(), signer=signer)
            game.run(frames=self.frames, clip=self.out)
        finally:
            window.close()


def _why_no_window() -> str | None:
    try:
        from worldsim.clients.window import why_no_window
    except ImportError:
        return "no pygame here (pip install 'worldsim-engine[play]')"
    return why_no_window()


def _read(path: Path) -> bytes:
    from worldsim.errors import DataError

    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
