"""The Python clients against a real server with a fake world."""

import asyncio
import io
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_server import server_of
from fake_world import FakeWorld, read_back
from PIL import Image
from websockets.asyncio.server import ServerConnection, serve

from worldsim.clients.async_client import AsyncClient
from worldsim.clients.connection import Conversation, ServerError, Settings
from worldsim.clients.sync_client import Client
from worldsim.errors import MachineError, ProtocolError
from worldsim.server import protocol as wire
from worldsim.server.app import ServeConfig, running


def playing(test: Callable[[AsyncClient], Awaitable[None]], world: FakeWorld | None = None) -> None:
    async def run() -> None:
        async with (
            asyncio.timeout(15),
            running(world or FakeWorld(), ServeConfig(port=0)) as server,  # type: ignore[arg-type]
            await AsyncClient.connect(server.url) as client,
        ):
            await test(client)

    asyncio.run(run())


def test_frames_are_iterated_and_latency_is_measured_by_the_client() -> None:
    async def test(client: AsyncClient) -> None:
        assert (client.world.world, client.world.rate) == ("fake", 100.0)
        await client.start(seed=2)
        seq = await client.send_action(client.world.bindings["turn_left"])
        measured = []
        async for frame in client:
            assert frame.frame.shape == (48, 64, 3) and frame.frame.dtype == np.uint8
            if frame.latency_ms is not None:
                assert frame.header.action_seq == seq and frame.latency_ms > 0
                assert read_back(frame.frame)[0] == 3
                measured.append(frame.latency_ms)
            if frame.header.number == 20:
                break
        assert len(measured) == 1

    playing(test)


@pytest.mark.parametrize("clock", ["open", "step"])
def test_a_step_returns_the_first_frame_that_reflects_it(clock: wire.Clock) -> None:
    async def test(client: AsyncClient) -> None:
        await client.start(clock=clock)
        for action in (1, 5, 2):
            frame = await client.step(action)
            assert read_back(frame.frame)[0] == action

    playing(test)


def test_sound_and_objects_arrive_as_arrays() -> None:
    async def test(client: AsyncClient) -> None:
        await client.start()
        frame = await client.frame(5)
        assert frame.sound.shape == (20,) and frame.objects.shape == (2, 3)

    playing(test, FakeWorld(has_extras=True))


def test_save_load_and_pictures_work_from_the_client() -> None:
    async def test(client: AsyncClient) -> None:
        file = io.BytesIO()
        noise = np.random.default_rng(0).integers(0, 255, (300, 200, 3), np.uint8)
        Image.fromarray(noise).save(file, "PNG")
        await client.start(clock="step", picture=file.getvalue())
        await client.step(1)
        await client.save("here")
        await client.step(1)
        await client.load("here")
        assert read_back((await client.step(1)).frame) == (1, 2)
        await client.load_snapshot(b"[[30], 0, 0]")
        assert read_back((await client.step(4)).frame) == (4, 31)

    playing(test)


def test_a_refusal_is_an_exception_and_the_session_goes_on() -> None:
    async def test(client: AsyncClient) -> None:
        await client.start(clock="step")
        with pytest.raises(ServerError, match="action must be < 8, got 9") as error:
            await client.step(9)
        assert error.value.code == "bad_action"
        with pytest.raises(ServerError, match="nothing was saved"):
            await client.load("nowhere")
        with pytest.raises(ServerError, match="readable picture"):
            await client.start(picture=b"not a picture")
        with pytest.raises(ValueError, match="an upload has"):
            await client.start(picture=b"")
        assert read_back((await client.step(6)).frame)[0] == 6

    playing(test)


def test_a_slow_consumer_gets_newer_frames_not_older_ones() -> None:
    async def test(client: AsyncClient) -> None:
        await client.start()
        numbers = []
        for _ in range(8):
            numbers.append((await client.frame(5)).header.number)
            await asyncio.sleep(0.06)
        assert numbers[-1] - numbers[0] > 14  # of about 42 made, 7 were taken

    playing(test)


def test_waiting_for_a_frame_can_time_out_without_losing_one() -> None:
    async def test(client: AsyncClient) -> None:
        await client.start(clock="step")
        with pytest.raises(TimeoutError):
            await client.frame(0.02)
        assert (await client.step(1)).header.number == 0

    playing(test)


def test_the_iteration_ends_when_the_server_stops() -> None:
    async def run() -> list[int]:
        async with running(FakeWorld(), ServeConfig(port=0)) as server:  # type: ignore[arg-type]
            client = await AsyncClient.connect(server.url)
            await client.start()
            await client.frame(5)
        return [frame.header.number async for frame in client]

    assert len(asyncio.run(asyncio.wait_for(run(), 15))) <= 3


def test_the_sync_client_does_the_same() -> None:
    with server_of() as server, Client.connect(server.url, timeout=5) as client:
        assert client.world.world == "fake"
        client.start(seed=1, clock="step")
        assert read_back(client.step(3).frame) == (3, 1)
        client.save()
        client.step(3)
        client.load()
        assert read_back(client.step(2).frame) == (2, 2)
        client.load_snapshot(b"[[10], 0, 0]")
        with pytest.raises(TimeoutError):
            client.frame(0.02)
        client.start(keep=True)
        client.send_action(5)
        for frame in client:
            if read_back(frame.frame)[0] == 5:
                break
        with pytest.raises(ServerError, match="nothing was saved"):
            client.load("nowhere")
        client.close()


@pytest.mark.parametrize("url", ["ws://127.0.0.1:1", "ws://localhost:1/x"])
def test_no_server_is_one_sentence(url: str) -> None:
    with pytest.raises(MachineError, match=r"no server answers .* `worldsim serve` starts one"):
        Client.connect(url, timeout=5)


def test_an_address_that_is_none_is_one_sentence() -> None:
    with pytest.raises(MachineError, match="is not an address like ws://"):
        Client.connect("nonsense")


def test_a_token_is_asked_for_and_used() -> None:
    with server_of(token="secret") as server:
        with pytest.raises(ServerError, match="--token"):
            Client.connect(server.url, token="wrong")
        with Client.connect(server.url, token="secret") as client:
            assert client.world.world == "fake"


def test_a_full_server_says_so() -> None:
    with server_of(max_sessions=1) as server, Client.connect(server.url) as client:
        assert client.world.world == "fake"
        with pytest.raises(ServerError, match="all 1 places are taken"):
            Client.connect(server.url)


@pytest.mark.parametrize("first", [b"\x00\x01", "hello", '{"type":"load","frame":1}'])
def test_another_kind_of_server_is_a_protocol_error(first: str | bytes) -> None:
    async def handler(connection: ServerConnection) -> None:
        await connection.send(first)
        await connection.wait_closed()

    async def run() -> None:
        protocols: Any = [wire.SUBPROTOCOL]
        async with serve(handler, "127.0.0.1", 0, subprotocols=protocols) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(ProtocolError):
                await AsyncClient.connect(f"ws://127.0.0.1:{port}")

    asyncio.run(asyncio.wait_for(run(), 15))


def test_latency_belongs_to_the_newest_action_reflected() -> None:
    conversation = Conversation()
    conversation.action(1)
    conversation.action(2)
    picture = wire.Frame(number=1, width=1, height=1)

    def read(seq: int) -> float | None:
        from dataclasses import replace

        from worldsim.server.media import encode_picture

        data = encode_picture(np.zeros((1, 1, 3), np.uint8))
        frame = conversation.read(wire.encode_frame(replace(picture, action_seq=seq, picture=data)))
        return frame.latency_ms  # type: ignore[union-attr]

    assert read(0) is None
    assert (read(2) or -1) > 0
    assert read(2) is None


def test_rewind_fork_snapshot_and_resume_work_from_the_client() -> None:
    async def run() -> None:
        world = FakeWorld()
        async with (
            asyncio.timeout(15),
            running(world, ServeConfig(port=0)) as server,  # type: ignore[arg-type]
        ):
            client = await AsyncClient.connect(server.url)
            await client.start(clock="step", seed=3)
            for _ in range(30):
                await client.step(1)
            undone = await client.rewind(2)
            assert 2 <= undone < 30
            assert read_back((await client.step(1)).frame) == (1, 31 - undone)
            snapshot = await client.snapshot()
            fork = await client.fork()
            token = client.world.resume
            await client.close()

            async with await AsyncClient.connect(server.url, resume=token) as again:
                assert again.world.resume == token
                assert read_back((await again.step(2)).frame) == (2, 32 - undone)
                await again.load_snapshot(snapshot)
                assert read_back((await again.step(3)).frame) == (3, 32 - undone)
            async with await AsyncClient.connect(server.url, resume=fork) as other:
                assert read_back((await other.step(4)).frame) == (4, 32 - undone)
            with pytest.raises(ServerError) as error:
                await AsyncClient.connect(server.url, resume="nonsense")
            assert error.value.code == "not_found"

    asyncio.run(run())


def test_a_viewer_watches_and_takes_the_controls() -> None:
    async def run() -> None:
        async with (
            asyncio.timeout(15),
            running(FakeWorld(), ServeConfig(port=0)) as server,  # type: ignore[arg-type]
            await AsyncClient.connect(server.url) as driver,
        ):
            await driver.start()
            await driver.frame(5)
            watched = driver.world.game
            async with await AsyncClient.connect(server.url, watch=watched) as viewer:
                await viewer.frame(5)
                with pytest.raises(ServerError, match="viewer"):
                    await viewer.step(1)
                assert await viewer.set_role("driver") == "viewer"
                assert await driver.set_role("viewer") == "viewer"
                while viewer.world.role == "viewer":
                    await viewer.frame(5)
                assert read_back((await viewer.step(6)).frame)[0] == 6
            with pytest.raises(ServerError, match="no such game"):
                await AsyncClient.connect(server.url, watch="nobody")

    asyncio.run(run())


def test_settings_are_wishes_of_the_client() -> None:
    async def test(client: AsyncClient) -> None:
        await client.start(clock="step", settings=Settings(k=1, sound=False, objects=False))
        frame = await client.step(1)
        assert frame.sound.size == 0 and frame.objects.shape == (0, 0)
        assert world.batches[-1] == (1, 1)

    world = FakeWorld(has_extras=True)
    playing(test, world)


def test_the_sync_client_rewinds_forks_and_resumes(tmp_path: Path) -> None:
    with server_of(recordings=tmp_path) as server:
        with Client.connect(server.url, timeout=5) as client:
            client.start(clock="step")
            assert (name := client.record(True)) is not None
            for _ in range(3):
                client.step(1)
            assert client.record(False) == name
            assert client.rewind(1) >= 1
            snapshot, fork = client.snapshot(), client.fork()
            token = client.world.resume
        with Client.connect(server.url, timeout=5, resume=token) as client:
            client.load_snapshot(snapshot)
            client.step(2)
        with Client.connect(server.url, timeout=5, resume=fork) as client:
            client.step(2)
            with Client.connect(server.url, timeout=5, watch=client.world.game) as viewer:
                assert viewer.set_role("driver") == "viewer"
    assert [path.name for path in tmp_path.glob("*.mkv")] == [f"{name}-0001.mkv"]
