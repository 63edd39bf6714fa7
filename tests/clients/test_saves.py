"""Saved games, rewinding and forks: in the window, on both kinds of sources."""

import os
from pathlib import Path
from typing import Any

import pygame
import pytest
from fake_games import local
from fake_server import server_of
from fake_world import FakeWorld, read_back
from test_window import Player, press, release

from worldsim.clients.game import Game
from worldsim.clients.local import LocalSource
from worldsim.clients.remote import RemoteSource
from worldsim.clients.saves import newest_save, write_save
from worldsim.clients.source import Beginning, Source
from worldsim.clients.sync_client import Client
from worldsim.clients.window import Window
from worldsim.errors import DataError, WorldsimError


def check_past(source: Source) -> None:
    """Save, load, rewind and fork, of either source: the fake world counts its ticks."""

    def ticks(of: Source, count: int) -> int:
        for _ in range(count):
            picture = of.single(0)
            of.settle()
        return read_back(picture.frame)[1]

    assert ticks(source, 30) == 30
    saved = source.save()
    other = source.fork()
    assert (ticks(other, 2), ticks(source, 3), ticks(other, 1)) == (32, 33, 33)

    source.load(saved)
    assert ticks(source, 25) == 55
    undone = source.rewind(2)
    assert undone >= 2 and ticks(source, 1) == 55 - undone + 1
    assert source.rewind(1000) == 0 and ticks(source, 1) == 55 - undone + 2

    with pytest.raises(WorldsimError):
        source.load(b"nothing of ours")
    assert ticks(source, 1) == 55 - undone + 3 and ticks(other, 1) == 34
    other.close()
    source.close()


def test_the_past_of_a_world_in_this_process() -> None:
    check_past(local())


def test_the_past_of_a_world_on_a_server() -> None:
    with server_of() as server:
        source = RemoteSource(Client.connect(server.url, timeout=5), Beginning())
        source.pause(True)
        check_past(source)


def play(at: dict[int, Any], folder: Path, *, frames: int) -> tuple[Player, Window]:
    source = local()
    window = Window(source.facts)
    pygame.event.clear()
    player = Player(source, at)
    try:
        Game(source, window, on_first=lambda: None, folder=folder).run(frames=frames)
    finally:
        window.close()
    return player, window


def test_f5_saves_f9_goes_back_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = {5: lambda: press(pygame.K_F5), 9: lambda: press(pygame.K_F9)}

    player, _ = play(at, tmp_path, frames=12)

    assert [tick for _, tick in player.frames] == [*range(1, 10), 6, 7, 8]
    said = capsys.readouterr().err
    assert f"saved {tmp_path / 'worldsim-fake-001.wsave'}" in said and "loaded" in said


def test_a_foreign_file_or_none_is_a_sentence_and_the_game_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def foreign() -> None:
        (tmp_path / "worldsim-fake-007.wsave").write_bytes(b"of another program")
        press(pygame.K_F9)

    player, _ = play({2: lambda: press(pygame.K_F9), 4: foreign}, tmp_path, frames=8)

    assert [tick for _, tick in player.frames] == list(range(1, 9))
    said = capsys.readouterr().err
    assert "no saved game of fake here; F5 saves one" in said
    assert "worldsim-fake-007.wsave: not a snapshot" in said


def test_backspace_goes_back_while_it_is_held(tmp_path: Path) -> None:
    at = {60: lambda: press(pygame.K_BACKSPACE), 62: lambda: release(pygame.K_BACKSPACE)}

    player, _ = play(at, tmp_path, frames=66)

    ticks = [tick for _, tick in player.frames]
    assert ticks[:60] == list(range(1, 61))
    assert ticks[60:62] == [51, 26]  # the fake world keeps every 25th state
    assert ticks[62:] == [27, 28, 29, 30]


def test_f6_forks_the_focused_view_gets_the_keys_and_f7_switches(tmp_path: Path) -> None:
    made: list[tuple[int, int]] = []
    forks: list[LocalSource] = []

    class Forked(LocalSource):
        def single(self, action: int, left: float | None = None) -> Any:
            picture = super().single(action, left)
            made.append(read_back(picture.frame))
            return picture

    source = local()

    def fork() -> Forked:
        forks.append(Forked(FakeWorld(), Beginning()))  # type: ignore[arg-type]
        forks[-1]._go_on(source._state)
        return forks[-1]  # type: ignore[return-value]

    source.fork = fork  # type: ignore[method-assign]
    at = {
        3: lambda: press(pygame.K_RIGHT, pygame.K_F6),
        8: lambda: press(pygame.K_F7),
        12: lambda: press(pygame.K_F6),
    }
    window = Window(source.facts)
    pygame.event.clear()
    player = Player(source, at)
    try:
        Game(source, window, on_first=lambda: None, folder=tmp_path).run(frames=16)
    finally:
        window.close()

    assert [tick for _, tick in player.frames] == list(range(1, len(player.frames) + 1))
    assert player.frames[3:8] == [(0, tick) for tick in range(4, 9)]  # nobody at its controls
    assert [action for action, _ in player.frames[8:]] == [4] * len(player.frames[8:])
    assert made[:5] == [(4, tick) for tick in range(4, 9)]
    assert made[5:] == [(0, tick) for tick in range(9, 13)]  # closed with F6 at 12
    assert len(forks) == 1


def test_two_views_lie_side_by_side_and_one_is_marked() -> None:
    source = local()
    window = Window(source.facts)
    left, right = source.single(3), source.single(5)

    window.show([left, right], "", focus=1)

    screen = pygame.surfarray.array3d(pygame.display.get_surface())
    window.close()
    width, height = screen.shape[:2]
    scale = (width - 6) // (2 * 64)
    begin, top = (width - 6 - 2 * 64 * scale) // 2, (height - 48 * scale) // 2
    beside, middle = begin + 64 * scale + 6, top + 24 * scale
    assert (screen[begin + 16 * scale, middle] == 90).all()
    assert (screen[beside + 16 * scale, middle] == 150).all()
    assert (screen[beside + 48 * scale, top] == 255).all()
    assert not (screen[begin + 48 * scale, top] == 255).all()


def test_the_newest_save_is_found_and_a_full_disk_is_a_sentence(tmp_path: Path) -> None:
    facts = local().facts
    with pytest.raises(DataError, match="no saved game of fake"):
        newest_save(facts, tmp_path)

    first, second = (write_save(data, facts, tmp_path) for data in (b"1", b"2"))
    os.utime(first, ns=(10**18, 10**18))
    os.utime(second, ns=(9 * 10**17, 9 * 10**17))

    assert newest_save(facts, tmp_path) == first
    with pytest.raises(WorldsimError, match="cannot be written"):
        write_save(b"3", facts, tmp_path / "nowhere")
