"""The loop between a source of pictures and a window: poll, show, settle."""

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from worldsim.clients.clip import ClipWriter, save_picture
from worldsim.clients.meter import Meter
from worldsim.clients.source import Picture, Source
from worldsim.clients.speaker import Speaker
from worldsim.clients.window import Command, Window

IDLE = 0.01  # seconds between two looks at the keys while paused
PAUSED = "paused   N: one tick   P: go on"


class Game:
    """One player at one window."""

    def __init__(
        self, source: Source, window: Window, *, on_first: Callable[[], None], folder: Path
    ) -> None:
        """`on_first` is called when the first frame is on the screen; pictures go to `folder`."""
        self.shown = 0
        self._source = source
        self._window = window
        self._on_first = on_first
        self._folder = folder
        self._meter = Meter()
        self._is_paused = False
        self._picture: Picture | None = None
        self._clip: ClipWriter | None = None
        self._speaker = Speaker(source.facts.sample_rate)

    def run(self, *, frames: int | None = None, clip: Path | None = None) -> None:
        """Play until the window is closed, or `frames` were shown; they also go to `clip`."""
        with ExitStack() as stack:
            stack.callback(self._speaker.close)
            if clip is not None:
                self._clip = stack.enter_context(ClipWriter(clip, self._source.facts))
            while frames is None or self.shown < frames:
                if self._is_paused:
                    time.sleep(IDLE)
                elif (picture := self._source.poll(self._window.read)) is not None:
                    self._show(picture)
                for command in self._window.commands():
                    if command is Command.QUIT:
                        return
                    self._obey(command)

    def _show(self, picture: Picture) -> None:
        self._meter.shown(time.monotonic())
        line = PAUSED if self._is_paused else self._meter.line(self._source.missed)
        self._window.show(picture, line)
        self._speaker.play(picture.sound)
        self._picture = picture
        self.shown += 1
        if self.shown == 1:
            self._on_first()
        self._source.settle()
        if self._clip is not None:
            self._clip.add(picture.frame, picture.sound)

    def _obey(self, command: Command) -> None:
        match command:
            case Command.RESET:
                self._source.reset()
                self._meter.pause()
                if self._is_paused:
                    self._step()
            case Command.PAUSE:
                self._is_paused = not self._is_paused
                self._source.pause(self._is_paused)
                self._meter.pause()
                if self._is_paused and self._picture is not None:
                    self._window.show(self._picture, PAUSED)
            case Command.SHOW_OBJECTS:
                self._window.toggle_objects()
                if self._is_paused and self._picture is not None:
                    self._window.show(self._picture, PAUSED)
            case Command.STEP if self._is_paused:
                self._step()
            case Command.MUTE:
                self._speaker.toggle()
            case Command.SAVE_PICTURE if self._picture is not None:
                path = save_picture(self._picture.frame, self._source.facts, self._folder)
                print(f"worldsim: saved {path}", file=sys.stderr)
            case _:
                pass  # a step while time runs, a picture before there is one

    def _step(self) -> None:
        self._show(self._source.single(self._window.read()))
