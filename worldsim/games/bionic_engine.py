"""The platformer Bionic Blue (Kennedy Guerra, Unlicense), played in a process of its own.

    python -m worldsim.games.bionic_engine SEED

The game is a program with one global state, made for a screen and a clock. Here it has neither: the
screen is SDL's dummy one, a line of JSON on stdin (the keys that are held) makes one frame, and the
answer on stdout is a line of JSON, the picture (320 x 180 x 3 bytes) and the sound of that frame
(1,470 samples, int16, mono). Sounds are mixed here, from the game's own files; music is left out.

Nothing of the game is changed on disk. Its objects live in sets, whose order depends on addresses:
they get serial numbers as hashes instead, so that the same keys give the same frames.
"""

import json
import os
import random
import sys
import tempfile
from itertools import count
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

SAMPLES = 1470  # 44,100 Hz / 30 Hz
LEVEL = "intro.lvl"
SETTLE = 90  # frames at most until the player has landed
KEYS = ("left", "right", "up", "jump", "shoot")


class Mixer:
    """What the game plays, sample by sample."""

    def __init__(self) -> None:
        self._playing: list[tuple[str, NDArray[np.int16], int, bool]] = []

    def play(self, name: str, samples: NDArray[np.int16], loops: int) -> None:
        """A sound begins with the present frame; `loops` of -1: it goes on until it is stopped."""
        self._playing.append((name, samples, 0, loops == -1))

    def stop(self, name: str) -> None:
        """All sounds of that name end."""
        self._playing = [one for one in self._playing if one[0] != name]

    def frame(self) -> NDArray[np.int16]:
        """The next SAMPLES samples."""
        mixed = np.zeros(SAMPLES, dtype=np.int32)
        going = []
        for name, samples, at, is_endless in self._playing:
            part = samples[at : at + SAMPLES]
            mixed[: len(part)] += part
            at += SAMPLES
            if is_endless:
                at %= len(samples)
            if at < len(samples):
                going.append((name, samples, at, is_endless))
        self._playing = going
        return np.clip(mixed, -32768, 32767).astype(np.int16)


class Heard:
    """In place of one of the game's sounds."""

    def __init__(self, name: str, sound: Any, mixer: Mixer) -> None:
        import pygame.sndarray

        both = pygame.sndarray.array(sound).astype(np.float64)
        volume = float(sound.get_volume())
        self._samples = (volume * both.reshape(len(both), -1).mean(axis=1)).astype(np.int16)
        self._name, self._mixer = name, mixer

    def play(self, loops: int = 0, maxtime: int = 0, fade_ms: int = 0) -> None:
        """As pygame's."""
        self._mixer.play(self._name, self._samples, loops)

    def stop(self) -> None:
        """As pygame's."""
        self._mixer.stop(self._name)

    def set_volume(self, volume: float) -> None:
        """Volumes stay what they were."""


class Keyboard:
    """The keys that are held, and the events of those that went down or up."""

    def __init__(self, codes: dict[str, int]) -> None:
        self._codes = codes  # of the game's own settings
        self._held: set[str] = set()
        self._events: list[Any] = []

    def hold(self, keys: set[str]) -> None:
        """From this frame on."""
        from pygame import KEYDOWN, KEYUP
        from pygame.event import Event

        for kind, changed in ((KEYUP, self._held - keys), (KEYDOWN, keys - self._held)):
            self._events += [Event(kind, key=self._codes[key]) for key in sorted(changed)]
        self._held = keys

    def events(self) -> list[Any]:
        """Since the last time."""
        events, self._events = self._events, []
        return events

    def pressed(self) -> Any:
        """By key code, as pygame.key.get_pressed."""
        down = {self._codes[key] for key in self._held}

        class Pressed:
            def __getitem__(self, code: int) -> bool:
                return code in down

        return Pressed()


class Engine:
    """The running game."""

    def __init__(self, seed: int) -> None:
        import pygame
        from bionicblue import config
        from bionicblue.pygamesetup import SERVICES_NS, constants
        from bionicblue.pygamesetup.services import normal
        from bionicblue.resourceloader import ResourceLoader
        from bionicblue.states import setup_states
        from bionicblue.states.levelmanager import common
        from bionicblue.userprefsman.main import KEYBOARD_CONTROLS

        normal.maintain_fps = lambda fps: None  # frames are made when they are asked for
        ResourceLoader().load_resources()
        number_objects()
        setup_states()
        self._mixer = Mixer()
        for name, sound in list(config.SOUND_MAP.items()):
            config.SOUND_MAP[name] = Heard(name, sound, self._mixer)
        self._keyboard = Keyboard({key: KEYBOARD_CONTROLS[key] for key in KEYS})
        SERVICES_NS.get_events = self._keyboard.events
        SERVICES_NS.get_pressed_keys = self._keyboard.pressed
        SERVICES_NS.update_screen = lambda: None
        refs = config.REFS
        refs.level_to_load = LEVEL
        # whoever was met before says nothing again: dialogues would stop the game
        refs.slot_data = {"encounters": ["giovanni"], "bosses_you_talked_with": ["kane"]}
        random.seed(seed)
        self._random = random.Random(seed)
        self._interrupted: type[Exception] = config.LoopException
        self._general, self._services = constants.GENERAL_NS, SERVICES_NS
        self._screen, self._common, self._pygame = constants.SCREEN, common, pygame
        self._level = refs.states.level_manager
        self._level.prepare()
        self._serial = SerialNumbers()
        for _ in range(SETTLE):
            self.tick(set())
            if self._level.player.state_name.startswith("idle"):
                break
        # every seed begins a little elsewhere
        for _ in range(self._random.randrange(1, 60)):
            self.tick(set())

    def tick(self, keys: set[str]) -> bool:
        """One frame with these keys held; False if the level ends with it."""
        self._keyboard.hold(keys)
        try:
            self._services.frame_checkups()
            self._level.control()
            self._level.update()
            self._level.draw()
        except self._interrupted:
            return False
        self._sound = self._mixer.frame()
        return not self.is_dead

    @property
    def is_dead(self) -> bool:
        return bool(self._level.player.state_name == "dead")

    def frame(self) -> NDArray[np.uint8]:
        """The picture, (180, 320, 3)."""
        across = self._pygame.surfarray.array3d(self._screen)
        frame: NDArray[np.uint8] = np.ascontiguousarray(across.swapaxes(0, 1))
        return frame

    def facts(self) -> dict[str, Any]:
        """The ground truth: the player's place in the level, where it looks, and what is near."""
        player, scrolled = self._level.player, self._common.scrolling
        left, top = scrolled
        looks_left = "left" in player.aniplayer.anim_name
        actors = sorted(self._common.ACTORS_NEAR_SCREEN, key=self._serial.of)
        shots = sorted(self._common.PROJECTILES, key=self._serial.of)
        props = self._common.MIDDLE_PROPS_NEAR_SCREEN
        climbable = [prop for prop in props if getattr(prop, "climbable", False)]
        ladders = sorted(climbable, key=self._serial.of)
        return {
            "x": player.rect.centerx - left,
            "y": player.rect.bottom - top,
            "angle": 180.0 if looks_left else 0.0,
            "things": [
                {
                    "id": self._serial.of(thing),
                    "name": type(thing).__name__,
                    "category": category,
                    "position": [thing.rect.centerx - left, thing.rect.bottom - top, 0.0],
                    "box": list(thing.rect),
                }
                for category, things in (
                    ("Monster", actors),
                    ("Projectile", shots),
                    ("Ladder", ladders),
                )
                for thing in things
            ],
        }

    @property
    def sound(self) -> NDArray[np.int16]:
        """Of the last frame."""
        return self._sound


class SerialNumbers:
    """Small numbers for objects, in the order in which they are first asked for."""

    def __init__(self) -> None:
        self._next = count()

    def of(self, thing: Any) -> int:
        """The same number every time."""
        if not hasattr(thing, "_worldsim_serial"):
            thing._worldsim_serial = next(self._next)
        return int(thing._worldsim_serial)


def number_objects() -> None:
    """Give the classes of the level's objects hashes that do not depend on addresses."""
    serial = SerialNumbers()
    for name, module in list(sys.modules.items()):
        if not name.startswith("bionicblue."):
            continue
        for kind in list(vars(module).values()):
            is_own = isinstance(kind, type) and kind.__module__ == name
            if is_own and kind.__hash__ is object.__hash__ and not hasattr(kind, "__slots__"):
                kind.__hash__ = _hash_with(serial)


def _hash_with(serial: SerialNumbers) -> Any:
    def hashed(self: Any) -> int:
        # an own one, not that of `facts`: asking for facts must not change the game
        if not hasattr(self, "_worldsim_hash"):
            self._worldsim_hash = next(serial._next)
        return int(self._worldsim_hash)

    return hashed


def serve(engine: Engine, lines: BinaryIO, out: BinaryIO) -> None:
    """A frame first, then one per line of keys, until stdin ends or the level does."""
    is_over = False
    while True:
        head = {"over": is_over, "dead": engine.is_dead, **({} if is_over else engine.facts())}
        out.write(json.dumps(head).encode() + b"\n")
        if is_over:
            out.flush()
            return
        out.write(engine.frame().tobytes() + engine.sound.astype("<i2").tobytes())
        out.flush()
        line = lines.readline()
        if not line:
            return
        is_over = not engine.tick(set(json.loads(line)))


def main() -> None:
    """The process."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever the game prints is no frame
    os.environ |= {"SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy"}
    with tempfile.TemporaryDirectory(prefix="worldsim-bionic-") as home:
        # the game keeps settings in the user's folder: not in the real one
        os.environ |= {"HOME": home, "XDG_DATA_HOME": home, "APPDATA": home}
        serve(Engine(int(sys.argv[1])), sys.stdin.buffer, out)


if __name__ == "__main__":
    main()
