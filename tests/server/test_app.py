"""The door: who may come in, and how the server stops."""

import asyncio
import base64
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from fake_world import FakeWorld
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from worldsim.cli import main
from worldsim.errors import MachineError, WorldsimError
from worldsim.server import protocol as wire
from worldsim.server.app import Running, ServeConfig, running
from worldsim.server.handshake import token_subprotocol

PROTOCOLS: Any = [wire.SUBPROTOCOL]


def serving(test: Callable[[Running], Awaitable[None]], **config: Any) -> None:
    async def run() -> None:
        async with (
            asyncio.timeout(15),
            running(FakeWorld(), ServeConfig(port=0, **config)) as server,  # type: ignore[arg-type]
        ):
            await test(server)

    asyncio.run(run())


async def enter(url: str, **options: Any) -> int:
    """HTTP status of an attempt to connect; 101 when it was let in."""
    try:
        async with connect(url, **{"subprotocols": PROTOCOLS, **options}) as client:
            await client.recv()
            return 101
    except InvalidStatus as error:
        return error.response.status_code


def test_f01_pages_of_other_origins_are_refused() -> None:
    async def test(server: Running) -> None:
        assert await enter(server.url, origin="http://evil.example") == 403
        assert await enter(server.url, origin="null") == 403
        assert await enter(server.url, origin=f"http://127.0.0.1:{server.port}") == 101
        assert await enter(server.url) == 101

    serving(test)


def test_f02_a_foreign_host_name_is_refused() -> None:
    async def test(server: Running) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(
            b"GET / HTTP/1.1\r\nHost: evil.example\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: " + base64.b64encode(bytes(16)) + b"\r\n\r\n"
        )
        assert b" 403 " in await reader.readline()
        writer.close()

    serving(test)


def test_f03_a_token_opens_the_door_but_not_in_the_address(
    caplog: pytest.LogCaptureFixture,
) -> None:
    token = "s3cret token/with+signs"

    async def test(server: Running) -> None:
        bearer = {"Authorization": f"Bearer {token}"}
        assert await enter(server.url, additional_headers=bearer) == 101
        assert await enter(server.url, subprotocols=[*PROTOCOLS, token_subprotocol(token)]) == 101
        assert await enter(server.url) == 401
        assert await enter(server.url, additional_headers={"Authorization": "Bearer s3"}) == 401
        assert await enter(f"{server.url}/?token=s3cret") == 401

    with caplog.at_level(logging.INFO):
        serving(test, token=token)
    assert "s3cret" not in caplog.text


def test_f06_players_beyond_the_limit_are_asked_to_come_back() -> None:
    async def test(server: Running) -> None:
        async with connect(server.url, subprotocols=PROTOCOLS) as first:
            await first.recv()
            with pytest.raises(InvalidStatus) as refused:
                await connect(server.url, subprotocols=PROTOCOLS)
            assert refused.value.response.status_code == 503
            assert refused.value.response.headers["Retry-After"] == "5"
        await asyncio.sleep(0.05)
        assert await enter(server.url) == 101

    serving(test, max_sessions=1)


@pytest.mark.parametrize("offered", [None, ["worldsim.v2"]])
def test_f08_a_connection_without_our_subprotocol_is_told_and_closed(offered: Any) -> None:
    async def test(server: Running) -> None:
        async with connect(server.url, subprotocols=offered) as client:
            with pytest.raises(ConnectionClosed):
                for _ in range(3):
                    text = await client.recv()
            assert isinstance(text, str)
            error = wire.parse_reply(text)
            assert isinstance(error, wire.Error) and error.code == "version_mismatch"
            assert client.close_code == 4001

    serving(test)


def test_f15_compression_is_not_negotiated() -> None:
    async def test(server: Running) -> None:
        async with connect(server.url, subprotocols=PROTOCOLS, compression="deflate") as client:
            assert client.protocol.extensions == []

    serving(test)


def test_f27_stopping_tells_every_player() -> None:
    async def run() -> None:
        async with running(FakeWorld(), ServeConfig(port=0)) as server:  # type: ignore[arg-type]
            client = await connect(server.url, subprotocols=PROTOCOLS)
            await client.recv()
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert client.close_code == 1001

    asyncio.run(asyncio.wait_for(run(), 15))


def test_f09_random_bytes_at_the_door_end_in_a_closed_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    junk = [b"\x16\x03\x01\x02\x00\x01", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", bytes(range(256))]

    async def test(server: Running) -> None:
        for data in junk:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(data + b"\r\n\r\n")
            await reader.read()
            writer.close()
        assert await enter(server.url) == 101

    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    serving(test)
    assert "Traceback" not in caplog.text


def test_f25_players_that_vanish_leave_nothing_behind() -> None:
    async def test(server: Running) -> None:
        for _ in range(20):
            client = await connect(server.url, subprotocols=PROTOCOLS)
            await client.send(wire.encode(wire.Start()))
            await client.recv()
            client.transport.abort()
        while len(asyncio.all_tasks()) > 6:
            await asyncio.sleep(0.02)
        assert await enter(server.url) == 101

    serving(test, max_sessions=50)


def test_f28_a_port_in_use_is_one_sentence() -> None:
    async def test(server: Running) -> None:
        config = ServeConfig(port=server.port)
        with pytest.raises(MachineError, match=rf"port {server.port} .*in use.*--port") as error:
            async with running(FakeWorld(), config):  # type: ignore[arg-type]
                pass
        assert error.value.exit_code == 4

    serving(test)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_f04_an_address_that_others_can_reach_needs_a_token(host: str) -> None:
    async def run() -> None:
        async with running(FakeWorld(), ServeConfig(host=host, port=0)):  # type: ignore[arg-type]
            pass

    with pytest.raises(MachineError, match="--token"):
        asyncio.run(run())


def test_a_certificate_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("nothing")

    async def run() -> None:
        config = ServeConfig(port=0, certfile=tmp_path / "cert.pem")
        async with running(FakeWorld(), config):  # type: ignore[arg-type]
            pass

    with pytest.raises(WorldsimError, match=r"cert\.pem: not a usable certificate"):
        asyncio.run(run())


@pytest.mark.parametrize(
    "wrong", [{"port": 70000}, {"rate": 0.0}, {"max_sessions": 0}, {"keyfile": Path("key.pem")}]
)
def test_a_config_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        ServeConfig(**wrong)


def test_f04_the_command_says_what_is_wrong_before_it_loads_a_world(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["serve", "--host", "0.0.0.0", "--token", ""]) == 4
    assert "--token" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve", "--port", str(taken.getsockname()[1])]) == 4
    assert "in use" in capsys.readouterr().err
    assert main(["serve", "--workers", "0"]) == 2
    assert "workers must be 1..64" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_f27_a_signal_ends_the_server_with_its_exit_code(number: int, code: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = (
        "import logging, sys; sys.path.insert(0, sys.argv[1]); logging.basicConfig(level=20);"
        "from fake_world import FakeWorld; from worldsim.server.app import ServeConfig, run;"
        f"sys.exit(run(FakeWorld(), ServeConfig(port={port})))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(Path(__file__).parent)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stderr is not None
        while "serving fake" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(number)
        assert process.wait(timeout=10) == code
        assert "Traceback" not in process.stderr.read()
    finally:
        process.kill()
        process.wait()
