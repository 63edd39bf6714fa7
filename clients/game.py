"""The loop between sources of pictures and a window: poll, show, settle.

A game has one view, or two after a fork, side by side. One of them has the keys; the other one
goes on with nobody at its controls.
"""

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from worldsim.axes import Action
from worldsim.clients.clip import ClipWriter, save_picture
from worldsim.clients.meter import Meter
from worldsim.clients.saves import newest_save, read_save, write_save
from worldsim.clients.source import Picture, Source
from worldsim.clients.speaker import Speaker
from worldsim.clients.window import Command, Window
from worldsim.errors import WorldsimError
from worldsim.signing import Signer

IDLE = 0.01  # seconds between two looks at the keys while paused
BINDING = "hold a number to see what it does, then press the key that you want it on; B: done"
PAUSED = "paused   N: one tick   P: go on"
NOTICE = 2.5  # seconds for which something that happened is shown
BACK_EVERY = 0.125  # seconds between two steps back, each to the kept state before: double speed


@dataclass
class View:
    """One world on the screen."""

    source: Source
    picture: Picture | None = None


class Game:
    """One player at one window."""

    def __init__(
        self,
        source: Source,
        window: Window,
        *,
        on_first: Callable[[], None],
        folder: Path,
        signer: Signer | None = None,
    ) -> None:
        """`on_first` is called when the first frame is on the screen; pictures and saved games go
        to `folder`, pictures and clips signed if there is a `signer`. The caller closes `source`,
        the game what it forks."""
        self.shown = 0
        self._views = [View(source)]
        self._focus = 0
        self._window = window
        self._on_first = on_first
        self._folder, self._signer = folder, signer
        self._meter = Meter()
        self._is_paused = False
        self._is_rewinding = False
        self._notice = ""
        self._notice_ends = 0.0
        self._clip: ClipWriter | None = None
        self._speaker = Speaker(source.facts.sample_rate)
        self._idle = source.facts.idle
        self._first = source

    def run(self, *, frames: int | None = None, clip: Path | None = None) -> None:
        """Play until the window is closed, or `frames` were shown; they also go to `clip`."""
        with ExitStack() as stack:
            stack.callback(self._speaker.close)
            stack.callback(self._close_forks)
            if clip is not None:
                self._clip = stack.enter_context(
                    ClipWriter(clip, self._view.source.facts, self._signer)
                )
            while frames is None or self.shown < frames:
                self._look()
                for command in self._window.commands():
                    if command is Command.QUIT:
                        return
                    try:
                        self._obey(command)
                    except WorldsimError as error:  # the game goes on as it was
                        self._tell(str(error))
                for control, code in self._window.bound():
                    self._bind(control, code)

    @property
    def _view(self) -> View:
        """The one with the keys."""
        return self._views[self._focus]

    def _look(self) -> None:
        if self._window.wants_back():
            self._step_back()
            return
        if self._is_rewinding:
            self._is_rewinding = False
            self._restart_time()
        if self._is_paused:
            time.sleep(IDLE)
            return
        # the one with the keys comes last, so that its keys are read as late as can be
        order = sorted(self._views, key=lambda view: view is self._view)
        for view in order:
            read = self._window.read if view is self._view else lambda: self._idle
            picture = view.source.poll(read)
            if picture is None:
                continue
            view.picture = picture
            if view is self._view:
                self._show()
            view.source.settle()

    def _show(self) -> None:
        """What the views show now, as a new frame."""
        self._meter.shown(time.monotonic())
        self._draw()
        picture = self._view.picture
        if picture is not None:
            self._speaker.play(picture.sound)
        self.shown += 1
        if self.shown == 1:
            self._on_first()
        if self._clip is not None and picture is not None:
            self._clip.add(picture.frame, picture.sound)

    def _draw(self) -> None:
        is_news = self._is_paused or time.monotonic() < self._notice_ends
        picture = self._view.picture
        level = picture.flow_steps if picture is not None else None
        line = PAUSED if self._is_paused else self._meter.line(self._view.source.missed, level)
        if time.monotonic() < self._notice_ends:
            line = self._notice
        pictures = [view.picture for view in self._views if view.picture is not None]
        self._window.show(pictures, line, focus=self._focus, is_news=is_news)

    def _obey(self, command: Command) -> None:
        source = self._view.source
        match command:
            case Command.RESET:
                source.reset()
                self._jumped()
            case Command.PAUSE:
                self._is_paused = not self._is_paused
                source.pause(self._is_paused)
                self._restart_time()
                if self._is_paused and self._view.picture is not None:
                    self._draw()
            case Command.SHOW_OBJECTS:
                self._window.toggle_objects()
                if self._is_paused and self._view.picture is not None:
                    self._draw()
            case Command.STEP if self._is_paused:
                self._step(self._window.read())
            case Command.MUTE:
                self._speaker.toggle()
            case Command.BIND:
                self._tell(BINDING if self._window.is_binding else "the keys are as they are now")
            case Command.SAVE_PICTURE if self._view.picture is not None:
                frame = self._view.picture.frame
                path = save_picture(frame, source.facts, self._folder, self._signer)
                self._tell(f"saved {path}")
            case Command.SAVE:
                path = write_save(source.save(), source.facts, self._folder)
                self._tell(f"saved {path}; F9 loads it")
            case Command.LOAD:
                self._load(newest_save(source.facts, self._folder))
            case Command.FORK:
                self._fork()
            case Command.SWITCH if len(self._views) > 1:
                self._focus = 1 - self._focus
                self._restart_time()
            case _:
                pass  # a step while time runs, a picture before there is one

    def _bind(self, control: str, code: int) -> None:
        """The key that was pressed while a code was held is that code from now on."""
        try:
            self._view.source.bind(control, code)
        except WorldsimError as error:
            self._tell(str(error))
            return
        self._window.facts = self._view.source.facts
        self._idle = self._view.source.facts.idle
        self._tell(f"{control} is code {code} now, and saved")

    def _load(self, path: Path) -> None:
        snapshot = read_save(path)
        try:
            self._view.source.load(snapshot)
        except WorldsimError as error:
            self._tell(f"{path}: {error}")
            return
        self._tell(f"loaded {path}")
        self._jumped()

    def _fork(self) -> None:
        """A second view from the same moment, which gets the keys; or, of two views, the one with
        the keys alone."""
        if len(self._views) > 1:
            other = self._views.pop(1 - self._focus)
            self._focus = 0
            if other.source is not self._first:
                other.source.close()
            self._tell("one view again")
        else:
            here = self._view
            self._views.append(View(here.source.fork(), here.picture))
            self._focus = 1
            self._tell("two views from one moment; F7: keys to the other, F6: this one alone")
        self._restart_time()

    def _step(self, action: Action) -> None:
        """One tick of the view with the keys, out of time."""
        self._view.picture = self._view.source.single(action)
        self._show()
        self._view.source.settle()

    def _step_back(self) -> None:
        """To the kept state before the last one; a tick from there shows it."""
        if not self._is_rewinding:
            self._is_rewinding = True
            for view in self._views:
                view.source.pause(True)
        if self._view.source.rewind(2):
            self._step(self._idle)
        else:
            self._notice, self._notice_ends = "no more past is kept", time.monotonic() + NOTICE
        time.sleep(BACK_EVERY)

    def _jumped(self) -> None:
        """The view with the keys is elsewhere now."""
        self._meter.pause()
        if self._is_paused:
            self._step(self._window.read())

    def _restart_time(self) -> None:
        for view in self._views:
            view.source.pause(self._is_paused)
        self._meter.pause()

    def _tell(self, text: str) -> None:
        print(f"worldsim: {text}", file=sys.stderr)
        self._notice, self._notice_ends = text, time.monotonic() + NOTICE

    def _close_forks(self) -> None:
        for view in self._views:
            if view.source is not self._first:
                view.source.close()
