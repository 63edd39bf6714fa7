"""Viewers in a process of their own watch a real server."""

import asyncio

import pytest
from fake_world import FakeWorld
from peer import Hall, meet, until

from worldsim.benchmarks.loopback import backend_of
from worldsim.benchmarks.viewers import watching
from worldsim.errors import MachineError


def test_viewers_get_the_frames_of_the_player_and_leave() -> None:
    async def test(hall: Hall) -> None:
        driver = await hall.join()
        assert driver.welcome is not None
        async with watching(hall.server.url, driver.welcome.game, 3) as rates:
            assert rates == []
            await driver.started()
            for _ in range(40):
                await driver.frame()
        assert len(rates) == 3 and min(rates) > 1.0
        await until(lambda: len(hall.server.server.connections) == 1)

    meet(test, FakeWorld(fps=40.0))


def test_viewers_who_do_not_get_in_are_an_error() -> None:
    async def test(hall: Hall) -> None:
        with pytest.raises(MachineError, match="2 viewers could not be seated"):
            async with watching(hall.server.url, "nobody", 2):
                raise AssertionError("nobody watches")

    meet(test)


def test_the_server_says_what_computes_its_ticks() -> None:
    async def test(hall: Hall) -> None:
        assert await asyncio.to_thread(backend_of, hall.server.url) == "native"

    meet(test, FakeWorld(backend="native"))


def test_another_kind_of_server_does_not_say_it() -> None:
    with pytest.raises(MachineError, match="what computes its ticks"):
        backend_of("ws://127.0.0.1:1")
