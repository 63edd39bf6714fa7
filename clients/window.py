"""The pygame window: pictures out, keys in. It knows nothing of worlds or servers."""

import os
import sys
from collections.abc import Sequence
from enum import Enum, auto

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
import pygame

from worldsim.axes import Action
from worldsim.clients.boxes import draw_boxes
from worldsim.clients.keys import (
    DOWN,
    FIRE,
    LEFT,
    LOWER,
    OWN,
    RAISE,
    REST,
    RIGHT,
    UP,
    choose,
    control_of,
)
from worldsim.clients.source import Facts, Picture
from worldsim.clients.steering import Steering

HELD = {
    pygame.K_UP: UP,
    pygame.K_w: UP,
    pygame.K_DOWN: DOWN,
    pygame.K_s: DOWN,
    pygame.K_LEFT: LEFT,
    pygame.K_a: LEFT,
    pygame.K_RIGHT: RIGHT,
    pygame.K_d: RIGHT,
    pygame.K_SPACE: FIRE,
}
AXES_HELD = {**HELD, pygame.K_LCTRL: REST, pygame.K_q: LOWER, pygame.K_e: RAISE}
MAX_SCALE = 8
OVERLAY_EVERY = 15  # frames between two renderings of the numbers
WHITE, SHADE = (255, 255, 255), (0, 0, 0, 150)
GAP = 6  # pixels between two views, and above the one that has the keys


class Command(Enum):
    """What a key asks for once, when it goes down."""

    QUIT = auto()
    RESET = auto()
    PAUSE = auto()
    STEP = auto()
    SAVE_PICTURE = auto()
    MUTE = auto()
    SHOW_OBJECTS = auto()
    SAVE = auto()
    LOAD = auto()
    FORK = auto()
    SWITCH = auto()
    BIND = auto()


COMMANDS = {
    pygame.K_ESCAPE: Command.QUIT,
    pygame.K_r: Command.RESET,
    pygame.K_p: Command.PAUSE,
    pygame.K_n: Command.STEP,
    pygame.K_F12: Command.SAVE_PICTURE,
    pygame.K_m: Command.MUTE,
    pygame.K_TAB: Command.SHOW_OBJECTS,
    pygame.K_F5: Command.SAVE,
    pygame.K_F9: Command.LOAD,
    pygame.K_F6: Command.FORK,
    pygame.K_F7: Command.SWITCH,
    pygame.K_b: Command.BIND,
}


def why_no_window() -> str | None:
    """Why no window can be opened on this machine, or None; opens the display if it can."""
    names = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")
    if sys.platform.startswith("linux") and not any(os.environ.get(name) for name in names):
        return "there is no display"  # SDL would draw straight on the console instead
    try:
        pygame.display.init()
    except pygame.error as error:
        return f"there is no display ({error})"
    return None


class Window:
    """One window showing one world, scaled by whole numbers."""

    def __init__(self, facts: Facts) -> None:
        pygame.display.init()
        pygame.font.init()
        height, width = facts.frame_size
        scale = _first_scale(width, height)
        size = (width * scale, height * scale)
        self.facts = facts
        self._keys = AXES_HELD if facts.axes else HELD
        self._steering = Steering(facts.axes)
        self._sticks = _sticks() if facts.axes else []
        self._screen = pygame.display.set_mode(size, pygame.RESIZABLE)
        pygame.display.set_caption(f"worldsim: {facts.name}")
        self._font = pygame.font.Font(None, 20)
        self._badge = self._label("AI-generated")
        self._line: pygame.Surface | None = None
        self._shown = 0
        self._shows_objects = False
        self._held: dict[int, str] = {}  # pygame key -> what it means
        self._tapped: set[str] = set()  # went down since the last look, maybe up again
        self._code: int | None = None  # a number key: the code itself
        self._commands: list[Command] = []
        self._is_back_held = self._is_back_tapped = False
        self.is_binding = False  # a key that goes down while a number is held gets that code
        self._bound: list[tuple[str, int]] = []

    def wants_back(self) -> bool:
        """Whether Backspace is held, or was tapped since the last time."""
        tapped, self._is_back_tapped = self._is_back_tapped, False
        return tapped or self._is_back_held

    def read(self) -> Action:
        """The action that the keys ask for now; a tap between two looks counts for one."""
        for event in pygame.event.get():
            self._take(event)
        if self._code is not None:
            return self._code
        held = self._tapped.union(self._held.values())
        self._tapped.clear()
        if self.facts.axes:
            return self._steering.read(held)
        return choose(held, self.facts.bindings)

    def commands(self) -> list[Command]:
        """What was asked for since the last time, in order."""
        self.pump()
        commands, self._commands = self._commands, []
        return commands

    def bound(self) -> list[tuple[str, int]]:
        """Controls that were given a code since the last time, while keys are being bound."""
        bound, self._bound = self._bound, []
        return bound

    def pump(self) -> None:
        """Look at the keys without using up a tap."""
        for event in pygame.event.get():
            self._take(event)

    def show(
        self, pictures: Sequence[Picture], line: str, *, focus: int = 0, is_news: bool = False
    ) -> None:
        """Put pictures on the screen side by side, with `line` over them; it is drawn now and then
        unless it `is_news`. Of several, the one with the index `focus` is marked."""
        height, width = self.facts.frame_size
        screen, count = self._screen, len(pictures)
        room = (screen.get_width() - (count - 1) * GAP) // count
        scale = max(1, min(room // width, screen.get_height() // height))
        across, down = width * scale, height * scale
        left = (screen.get_width() - count * across - (count - 1) * GAP) // 2
        top = (screen.get_height() - down) // 2
        screen.fill((0, 0, 0))
        for i, picture in enumerate(pictures):
            corner = (left + i * (across + GAP), top)
            frame = pygame.image.frombuffer(picture.frame.tobytes(), (width, height), "RGB")
            screen.blit(pygame.transform.scale(frame, (across, down)), corner)
            if self._shows_objects and picture.objects is not None:
                draw_boxes(screen, self._font, picture.objects, (*corner, across, down))
            badge = self._badge.get_rect(bottomright=(corner[0] + across - 4, top + down - 4))
            screen.blit(self._badge, badge)
            if count > 1 and i == focus:
                pygame.draw.rect(screen, WHITE, (corner[0], top, across, GAP // 2))
        if self._line is None or self._shown % OVERLAY_EVERY == 0 or is_news:
            self._line = self._label(line)
        screen.blit(self._line, (left + 4, top + 4))
        pygame.display.flip()
        self._shown += 1

    def toggle_objects(self) -> None:
        """Show the boxes of objects from the next picture on, or no longer."""
        self._shows_objects = not self._shows_objects

    def close(self) -> None:
        """Close the window."""
        pygame.display.quit()

    def _take(self, event: pygame.event.Event) -> None:
        if event.type == pygame.QUIT:
            self._commands.append(Command.QUIT)
        elif event.type == pygame.KEYDOWN:
            self._press(event.key)
        elif event.type == pygame.KEYUP:
            self._release(event.key)
        elif event.type == pygame.MOUSEMOTION and event.buttons[0]:
            self._steering.drag(event.rel[0], -event.rel[1])
        elif event.type == pygame.JOYAXISMOTION and self._sticks:
            self._steering.lean(self._sticks[0].get_axis(0), -self._sticks[0].get_axis(1))
        elif event.type == pygame.WINDOWFOCUSLOST:  # the releases go to another window
            self._held.clear()
            self._code, self._is_back_held = None, False

    def _press(self, key: int) -> None:
        name = self._keys.get(key) or _own_name(key)
        if self.is_binding and self._code is not None and name:
            self._bound.append((control_of(name, self.facts.bindings), self._code))
        elif key in self._keys or name in self.facts.bindings:
            self._held[key] = name
            self._tapped.add(name)
        elif key == pygame.K_BACKSPACE:
            self._is_back_held = self._is_back_tapped = True
        elif key in COMMANDS:
            self._commands.append(COMMANDS[key])
            if key == pygame.K_b:  # at once: the keys to be bound may come before the next look
                self.is_binding = not self.is_binding and self.facts.num_actions > 0
        elif pygame.K_1 <= key <= pygame.K_9 and key - pygame.K_1 < self.facts.num_actions:
            self._code = key - pygame.K_1

    def _release(self, key: int) -> None:
        self._held.pop(key, None)
        if key == pygame.K_BACKSPACE:
            self._is_back_held = False
        if self._code is not None and key - pygame.K_1 == self._code:
            self._code = None

    def _label(self, text: str) -> pygame.Surface:
        ink = self._font.render(text, True, WHITE)
        label = pygame.Surface((ink.get_width() + 8, ink.get_height() + 4), pygame.SRCALPHA)
        label.fill(SHADE)
        label.blit(ink, (4, 2))
        return label


def _own_name(key: int) -> str:
    """Of a letter that means nothing else here; empty for other keys."""
    letter = pygame.K_a <= key <= pygame.K_z and key not in COMMANDS
    return f"{OWN}{chr(key)}" if letter else ""


def _sticks() -> list[pygame.joystick.JoystickType]:
    """The gamepads that are plugged in; they speak only while somebody holds them."""
    pygame.joystick.init()
    return [pygame.joystick.Joystick(i) for i in range(pygame.joystick.get_count())]


def _first_scale(width: int, height: int) -> int:
    """The largest whole number that leaves the window well within the desktop."""
    desktop = pygame.display.get_desktop_sizes()[0]
    fitting = min(0.8 * desktop[0] / width, 0.8 * desktop[1] / height)
    return max(1, min(MAX_SCALE, int(fitting)))
