"""Keys, and the window under SDL's dummy driver."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pygame
import pytest
from fake_games import local, read_clip
from fake_world import FakeWorld, read_back

from worldsim.axes import Axis
from worldsim.clients.boxes import draw_boxes
from worldsim.clients.game import Game
from worldsim.clients.keys import choose
from worldsim.clients.local import LocalSource
from worldsim.clients.source import Picture
from worldsim.clients.steering import Steering
from worldsim.clients.window import Command, Window, why_no_window

BINDINGS = FakeWorld().bindings


@pytest.mark.parametrize(
    ("held", "control"),
    [
        ("", "noop"),
        ("up", "forward"),
        ("down", "backward"),
        ("left", "turn_left"),
        ("right", "turn_right"),
        ("up left", "forward_left"),
        ("up right", "forward_right"),
        ("down left", "turn_left"),
        ("up down", "noop"),
        ("left right up", "forward"),
        ("fire", "attack"),
        ("fire up left", "attack"),
    ],
)
def test_held_keys_make_one_control(held: str, control: str) -> None:
    assert choose(set(held.split()), BINDINGS) == BINDINGS[control]


def test_a_world_without_the_control_gets_the_next_best() -> None:
    assert choose({"up", "left"}, {"noop": 4, "turn_left": 2}) == 2
    assert choose({"fire", "up"}, {"noop": 4, "forward": 1}) == 1
    assert choose({"fire"}, {"noop": 4}) == 4
    assert choose({"fire"}, {"camera": 3}) == 0


@pytest.fixture
def window() -> Any:
    window = Window(local().facts)
    pygame.event.clear()
    yield window
    window.close()


def press(*keys: int) -> None:
    for key in keys:
        pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=key))


def release(*keys: int) -> None:
    for key in keys:
        pygame.event.post(pygame.event.Event(pygame.KEYUP, key=key))


def test_keys_held_in_the_window_are_the_action(window: Window) -> None:
    press(pygame.K_UP, pygame.K_a)
    assert window.read() == window.read() == BINDINGS["forward_left"]
    release(pygame.K_a)
    assert window.read() == BINDINGS["forward"]
    release(pygame.K_UP)
    assert window.read() == BINDINGS["noop"]


def test_a_tap_between_two_looks_counts_for_one(window: Window) -> None:
    press(pygame.K_SPACE)
    release(pygame.K_SPACE)
    window.pump()
    assert [window.read(), window.read()] == [BINDINGS["attack"], BINDINGS["noop"]]


def test_number_keys_are_codes(window: Window) -> None:
    press(pygame.K_7)
    assert window.read() == 6
    release(pygame.K_7)
    press(pygame.K_9)  # this world has eight codes
    assert window.read() == 0


def test_losing_the_focus_releases_every_key(window: Window) -> None:
    press(pygame.K_LEFT)
    assert window.read() == BINDINGS["turn_left"]
    pygame.event.post(pygame.event.Event(pygame.WINDOWFOCUSLOST))
    assert window.read() == BINDINGS["noop"]


def test_the_picture_is_scaled_by_a_whole_number_and_carries_a_badge(window: Window) -> None:
    picture = local().single(5)

    window.show([picture], "100.0 frames/s")

    screen = pygame.surfarray.array3d(pygame.display.get_surface())
    scale = screen.shape[0] // 64
    assert screen.shape == (64 * scale, 48 * scale, 3) and scale >= 1
    assert (screen[: 32 * scale, 24 * scale] == 150).all()
    corner = screen[-6 * scale :, -4 * scale :]
    assert corner.max() > 200  # the badge is white on the dark half


AXES = (
    Axis(name="turn", low=-8.0, high=8.0),
    Axis(name="speed", low=-10.0, high=50.0),
    Axis(name="fire", low=0.0, high=1.0),
)


@pytest.fixture
def steered() -> Any:
    window = Window(replace(local().facts, axes=AXES, bindings={}, num_actions=0))
    pygame.event.clear()
    yield window
    window.close()


def test_arrows_and_space_are_the_ends_of_axes(steered: Window) -> None:
    press(pygame.K_RIGHT, pygame.K_DOWN, pygame.K_SPACE)
    assert steered.read() == (8.0, -10.0, 1.0)
    release(pygame.K_RIGHT, pygame.K_SPACE)
    press(pygame.K_a)
    assert steered.read() == (-8.0, -10.0, 0.0)
    release(pygame.K_a, pygame.K_DOWN)
    assert steered.read() == (0.0, 0.0, 0.0)


def test_a_dragged_mouse_steers_by_how_far_it_went_and_only_then(steered: Window) -> None:
    def move(x: int, y: int, *, is_down: bool) -> None:
        buttons = (int(is_down), 0, 0)
        event = pygame.event.Event(pygame.MOUSEMOTION, rel=(x, y), buttons=buttons, pos=(0, 0))
        pygame.event.post(event)

    move(6, 0, is_down=True)
    move(6, -6, is_down=True)
    assert steered.read() == (4.0, 12.5, 0.0)
    assert steered.read() == (0.0, 0.0, 0.0)
    move(500, 0, is_down=True)
    assert steered.read()[0] == 8.0  # type: ignore[index]
    move(12, 0, is_down=False)
    assert steered.read() == (0.0, 0.0, 0.0)


def test_a_stick_steers_beyond_its_middle() -> None:
    steering = Steering(AXES)

    steering.lean(0.1, 0.5)
    assert steering.read(set()) == (0.0, 25.0, 0.0)
    steering.lean(-1.0, 0.0)
    assert steering.read(set()) == steering.read(set()) == (-8.0, 0.0, 0.0)


def test_the_game_hands_axes_to_the_world(tmp_path: Path) -> None:
    world = FakeWorld(axes=[Axis(name="turn", low=0.0, high=5.0)], bindings={})
    at = {2: lambda: press(pygame.K_RIGHT), 4: lambda: release(pygame.K_RIGHT)}

    player = play(at, tmp_path, world=world, frames=6)

    assert [action for action, _ in player.frames] == [0, 0, 5, 5, 0, 0]


def test_keys_are_bound_while_the_world_is_played(tmp_path: Path) -> None:
    world = FakeWorld(bindings={f"code_{i}": i for i in range(8)})
    at = {
        2: lambda: press(pygame.K_b, pygame.K_4),
        4: lambda: press(pygame.K_LEFT),
        5: lambda: press(pygame.K_k),
        6: lambda: release(pygame.K_4, pygame.K_LEFT, pygame.K_k),
        7: lambda: press(pygame.K_b),
        9: lambda: press(pygame.K_LEFT),
        12: lambda: release(pygame.K_LEFT),
        14: lambda: press(pygame.K_k),
        16: lambda: press(pygame.K_5),  # no more binding: the number plays
        18: lambda: press(pygame.K_RIGHT),
    }

    player = play(at, tmp_path, world=world, frames=20)

    assert world.bound == [{"turn_left": 3}, {"key_k": 3}]
    actions = [action for action, _ in player.frames]
    assert actions[:2] == [0, 0] and actions[2:6] == [3] * 4
    assert actions[6:9] == [0] * 3 and actions[9:12] == [3] * 3
    assert actions[12:14] == [0, 0] and actions[14:16] == [3, 3] and actions[16:] == [4] * 4


def test_a_world_that_cannot_be_written_says_so_and_plays_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = FakeWorld(is_locked=True)
    at = {1: lambda: press(pygame.K_b, pygame.K_4, pygame.K_LEFT)}

    player = play(at, tmp_path, world=world, frames=6)

    assert len(player.frames) == 6 and world.bindings["turn_left"] == BINDINGS["turn_left"]
    assert "bind in a copy of it" in capsys.readouterr().err


class Player:
    """Presses keys when so many frames were shown."""

    def __init__(self, source: LocalSource, at: dict[int, Callable[[], None]]) -> None:
        self.frames: list[tuple[int, int]] = []
        self._source = source
        self._at = dict(at)
        source.settle, self._settle = self.settle, source.settle  # type: ignore[method-assign]
        source.single, self._single = self.single, source.single  # type: ignore[method-assign]

    def single(self, action: int, left: float | None = None) -> Any:
        picture = self._single(action, left)
        self.frames.append(read_back(picture.frame))
        return picture

    def settle(self) -> None:
        self._settle()
        self._at.pop(len(self.frames), lambda: None)()


def play(
    at: dict[int, Callable[[], None]], folder: Path, world: FakeWorld | None = None, **run: Any
) -> Player:
    source = local(world)
    window = Window(source.facts)
    pygame.event.clear()
    player = Player(source, at)
    try:
        game = Game(source, window, on_first=lambda: None, folder=folder)
        game.run(**{"frames": 40, **run})
    finally:
        window.close()
    return player


def test_the_game_obeys_its_keys(tmp_path: Path) -> None:
    at = {
        3: lambda: press(pygame.K_RIGHT),
        8: lambda: press(pygame.K_r),
        12: lambda: press(pygame.K_F12),
        15: lambda: press(pygame.K_p, pygame.K_n),
        16: lambda: press(pygame.K_n),
        17: lambda: press(pygame.K_p),
        25: lambda: press(pygame.K_ESCAPE),
    }

    player = play(at, tmp_path)

    assert [action for action, _ in player.frames[:8]] == [0] * 3 + [4] * 5
    ticks = [tick for _, tick in player.frames]
    assert ticks == [*range(1, 9), *range(1, 18)]  # R at 8; P, N, N, P lose and repeat nothing
    assert len(list(tmp_path.glob("*.png"))) == 1


def test_the_game_stops_after_so_many_frames_and_keeps_a_clip(tmp_path: Path) -> None:
    player = play({}, tmp_path, frames=9, clip=tmp_path / "clip.mp4")

    assert len(player.frames) == len(read_clip(tmp_path / "clip.mp4")[0]) == 9


def test_no_display_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert why_no_window() is None
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    if sys.platform.startswith("linux"):
        assert why_no_window() == "there is no display"
    pygame.display.quit()
    monkeypatch.setenv("SDL_VIDEODRIVER", "none_such")
    assert "no display" in (why_no_window() or "")


def test_tab_shows_the_boxes_of_what_is_in_view(window: Any) -> None:
    slots = np.zeros((3, 7), np.float32)
    slots[0, :5] = (0.5, 0.5, 0.25, 0.5, 1.0)
    slots[1, :5] = (1.3, 0.5, 0.25, 0.5, 0.5)  # remembered: out of view
    screen = pygame.Surface((80, 60))

    assert draw_boxes(screen, pygame.font.Font(None, 20), slots, (0, 0, 80, 60)) == 1
    assert screen.get_at((30, 30))[:3] != (0, 0, 0), "the left side of the box"
    assert screen.get_at((70, 30))[:3] == (0, 0, 0)

    press(pygame.K_TAB)
    assert window.commands() == [Command.SHOW_OBJECTS]
    facts = local().facts
    picture = Picture(
        frame=np.zeros((*facts.frame_size, 3), np.uint8),
        is_alarm=False,
        action_ms=None,
        objects=slots,
    )

    def shown() -> int:
        window.show([picture], "")
        return int(pygame.surfarray.array3d(pygame.display.get_surface()).any(axis=2).sum())

    without = shown()
    window.toggle_objects()
    assert shown() > without
