"""The same server behind an ASGI proxy, and as replicas of a deployment on Ray Serve.

The proxy of the first half is played by the tests; that of the second is Serve's own.
"""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fake_world import FakeWorld, read_back
from peer import until

from worldsim.clients.async_client import AsyncClient
from worldsim.clients.connection import ServerError
from worldsim.errors import MachineError, WorldsimError
from worldsim.server import asgi
from worldsim.server import protocol as wire
from worldsim.server.app import ServeConfig
from worldsim.server.asgi import DENIAL, App
from worldsim.server.ray_app import Deployment, application, build

HEADERS = [(b"host", b"127.0.0.1:8000")]
UPGRADE = [*HEADERS, (b"upgrade", b"websocket")]


class Line:
    """One conversation with an application, as a proxy has it."""

    def __init__(self, app: App, scope: dict[str, Any]) -> None:
        self._in: asyncio.Queue[Any] = asyncio.Queue()
        self._out: asyncio.Queue[Any] = asyncio.Queue()
        self.task = asyncio.ensure_future(app(scope, self._in.get, self._out.put))

    def say(self, kind: str, **values: Any) -> None:
        self._in.put_nowait({"type": kind, **values})

    async def hear(self, kind: str) -> Any:
        """The next message of this kind; those before it are dropped."""
        while (message := await self._out.get())["type"] != kind:
            assert "close" not in message["type"], message
        return message


@asynccontextmanager
async def app_of(world: FakeWorld | None = None, **config: Any) -> AsyncIterator[App]:
    app = App(lambda: world or FakeWorld(), lambda: ServeConfig(max_sessions=2, **config))  # type: ignore[arg-type, return-value]
    async with asyncio.timeout(20):
        life = Line(app, {"type": "lifespan"})
        life.say("lifespan.startup")
        await life.hear("lifespan.startup.complete")
        yield app
        life.say("lifespan.shutdown")
        await life.hear("lifespan.shutdown.complete")


def scope(kind: str, path: str = "/", **values: Any) -> dict[str, Any]:
    headers = UPGRADE if kind == "websocket" else HEADERS
    names = {"subprotocols": ["worldsim.v1"]} if kind == "websocket" else {}
    base = {"path": path, "query_string": b"", "headers": headers, "client": ("127.0.0.1", 1)}
    return {"type": kind, **base, **names, **values}


async def get(app: App, path: str) -> tuple[int, dict[bytes, bytes], bytes]:
    line = Line(app, scope("http", path))
    start = await line.hear("http.response.start")
    body = (await line.hear("http.response.body"))["body"]
    return start["status"], dict(start["headers"]), body


async def connected(app: App, **values: Any) -> Line:
    line = Line(app, scope("websocket", **values))
    line.say("websocket.connect")
    assert (await line.hear("websocket.accept"))["subprotocol"] == "worldsim.v1"
    hello = wire.parse_reply((await line.hear("websocket.send"))["text"])
    assert isinstance(hello, wire.Welcome)
    return line


def test_a_game_is_played_through_a_proxy() -> None:
    async def run() -> None:
        async with app_of() as app:
            line = await connected(app)
            for message in (wire.Start(clock="step"), wire.Action(1, 5)):
                line.say("websocket.receive", text=wire.encode(message))
            while (data := (await line.hear("websocket.send")).get("bytes")) is None:
                pass
            assert wire.decode_frame(data).action_seq == 1
            line.say("websocket.receive", bytes=b"nothing was announced")
            with suppress(AssertionError):
                await line.hear("websocket.close")
            line.say("websocket.disconnect", code=1003)
            await line.task

    asyncio.run(run())


def test_a_player_who_leaves_gives_the_place_back() -> None:
    async def run() -> None:
        async with app_of() as app:
            line = await connected(app)
            assert json.loads((await get(app, "/healthz"))[2])["games"] == 1
            line.say("websocket.disconnect", code=1000)
            await line.task
            assert json.loads((await get(app, "/healthz"))[2])["games"] == 0

    asyncio.run(run())


def test_a_message_that_is_too_big_closes_with_1009() -> None:
    async def run() -> None:
        async with app_of() as app:
            line = await connected(app)
            line.say("websocket.receive", text="x" * (wire.MAX_MESSAGE + 1))
            while (message := await line._out.get())["type"] != "websocket.close":
                pass
            assert message["code"] == 1009
            await line.task

    asyncio.run(run())


def test_the_pages_and_the_health_of_a_server_come_through() -> None:
    async def run() -> None:
        async with app_of() as app:
            status, headers, body = await get(app, "/")
            assert status == 200 and b"<canvas" in body
            assert b"default-src 'none'" in headers[b"content-security-policy"]
            assert not headers.keys() & {b"connection", b"content-length", b"date"}
            assert (await get(app, "/nothing"))[0] == 404
            assert b"worldsim_" in (await get(app, "/metrics"))[2]

    asyncio.run(run())


def test_who_may_not_come_in_is_told_why_where_the_proxy_can_say_it() -> None:
    async def refused(app: App, **values: Any) -> Any:
        line = Line(app, scope("websocket", **values))
        line.say("websocket.connect")
        message = await line._out.get()
        await line.task
        return message

    async def run() -> None:
        async with app_of(token="secret") as app:
            told = await refused(app, extensions={DENIAL: {}})
            assert (told["type"], told["status"]) == (f"{DENIAL}.start", 401)
            assert (await refused(app))["type"] == "websocket.close"
            right = [*UPGRADE, (b"authorization", b"Bearer secret")]
            await connected(app, headers=right)
            stranger = [(b"host", b"evil.example"), *right[1:]]
            assert (await refused(app, headers=stranger))["type"] != "websocket.accept"
            in_address = {"headers": right, "query_string": b"token=secret"}
            assert (await refused(app, **in_address))["type"] == "websocket.close"

    asyncio.run(run())


def test_an_application_whose_clock_broke_ends_its_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    codes: list[int] = []

    def exit_with(code: int) -> None:
        codes.append(code)
        raise SystemExit

    async def broken(_: object) -> None:
        raise RuntimeError("injected fault")

    monkeypatch.setattr(asgi.os, "_exit", exit_with)
    monkeypatch.setattr("worldsim.server.scheduler.Scheduler.run", broken)

    async def run() -> None:
        life = Line(App(FakeWorld, ServeConfig), {"type": "lifespan"})  # type: ignore[arg-type]
        life.say("lifespan.startup")
        with suppress(SystemExit):
            await life.task

    with suppress(SystemExit):
        asyncio.run(asyncio.wait_for(run(), 20))
    assert codes == [asgi.BROKEN]


# Replicas -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "saves must name a folder that all replicas see"),
        ({"saves": "x", "replica": "3"}, "there is no 'replica' to set; there are world, replicas"),
        ({"saves": "x", "replicas": "many"}, "replicas must be a number, got 'many'"),
    ],
)
def test_wrong_arguments_are_one_sentence(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(WorldsimError, match=message):
        Deployment.parse(arguments)


def test_arguments_are_text() -> None:
    wanted = Deployment.parse({"saves": "x", "replicas": "3", "save_every": "0.5", "sessions": "4"})

    config = wanted.config()
    assert (wanted.replicas, config.save_every, config.max_sessions) == (3, 0.5, 4)
    assert config.name != wanted.config().name, "every replica has a name of its own"


def test_without_ray_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MachineError, match=r"pip install 'worldsim-engine\[ray\]'") as error:
        build({"saves": "x"})
    assert error.value.exit_code == 4


def test_an_address_of_everybody_needs_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="needs the extra ray")
    monkeypatch.delenv("WORLDSIM_TOKEN", raising=False)
    with pytest.raises(MachineError, match="can be reached from other machines"):
        build({"saves": "x", "host": "0.0.0.0"})


@dataclass(frozen=True, kw_only=True)
class FakeDeployment(Deployment):
    """Replicas of the fake world, which show their process in their name."""

    def load_world(self) -> Any:
        return FakeWorld(name=str(os.getpid()), fps=50.0)


@pytest.fixture
def deployment(tmp_path: Path, free_port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of two replicas that save every quarter second."""
    for name in ("READY", "HEALTH"):  # 5 and 10 seconds are short on a busy machine
        monkeypatch.setenv(f"RAY_SERVE_PROXY_{name}_CHECK_TIMEOUT_S", "60")
    monkeypatch.setenv("RAY_agent_register_timeout_ms", "60000")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray = pytest.importorskip("ray", reason="needs the extra ray")
    from ray import serve

    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    seen = {"env_vars": {"PYTHONPATH": os.pathsep.join(filter(None, paths))}}
    ray.init(
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env=seen,
    )
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": free_port})
        wanted = FakeDeployment(saves=str(tmp_path), save_every=0.25, sessions=4, cpus=0.5)
        serve.run(application(wanted), name="worldsim", route_prefix="/")
        yield f"ws://127.0.0.1:{free_port}"
    finally:
        serve.shutdown()
        ray.shutdown()


@pytest.fixture
def free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def test_players_of_a_killed_replica_come_back_to_their_last_save(
    deployment: str, tmp_path: Path
) -> None:
    async def step(player: AsyncClient, action: int) -> int:
        return read_back((await player.step(action)).frame)[1]

    async def run() -> None:
        players = [await AsyncClient.connect(deployment, timeout=20) for _ in range(6)]
        for player in players:
            await player.start(clock="step")
            for tick in range(1, 6):
                assert await step(player, 1) == tick
        replicas = {player.world.world for player in players}
        assert len(replicas) == 2, "one replica got all the players"
        await until(lambda: all(counted(path) == 5 for path in saves(tmp_path, 6)))

        victim = players[0].world.world
        lost = [player for player in players if player.world.world == victim]
        others = [player for player in players if player.world.world != victim]
        os.kill(int(victim), signal.SIGKILL)
        began = time.monotonic()
        for player in lost:
            with pytest.raises(ServerError) as told:
                await player.step(1)
            assert told.value.code == "lost"  # closed without a word, with 1006
        for player in others:
            assert await step(player, 2) == 6, "their replica lives"

        for player in lost:
            assert player.world.resume is not None
            back = await AsyncClient.connect(deployment, timeout=20, resume=player.world.resume)
            assert back.world.world != victim and back.world.game != player.world.game
            assert back.world.restored is not None
            assert back.world.restored <= time.monotonic() - began + 2.0
            assert await step(back, 3) == 6, "the tick after that of the save"
            await back.close()
        for player in others:
            await player.close()

    asyncio.run(asyncio.wait_for(run(), 60))


def saves(folder: Path, count: int) -> list[Path]:
    """The files of so many games; one that is not there yet is named."""
    found = list(folder.glob("*.save"))
    return found + [folder / "missing"] * (count - len(found))


def counted(path: Path) -> int:
    """The tick of a save of the fake world; -1: there is none."""
    try:
        return int(json.loads(path.read_bytes().partition(b"\n")[2])[0][0])
    except (OSError, ValueError):
        return -1
