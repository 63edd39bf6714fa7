"""Games that outlive their server: saved in a shared folder, taken over when it is silent."""

import asyncio
import errno
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from fake_world import FakeWorld, read_back
from peer import Hall, Peer, hall_of, until

from worldsim.errors import CheckpointError, MachineError
from worldsim.server import lobby as lobby_module
from worldsim.server import protocol as wire
from worldsim.server.app import ServeConfig
from worldsim.server.media import decode_picture
from worldsim.server.vault import FORGOTTEN, SILENT, Kept, Vault

EVERY = 0.05  # seconds between two saves
KEPT = Kept(seed=3, clock="step", steps=2)


@asynccontextmanager
async def two_halls(saves: Path) -> AsyncIterator[tuple[Hall, Hall]]:
    async with (
        asyncio.timeout(20),
        hall_of(FakeWorld(), saves=saves, save_every=EVERY) as first,
        hall_of(FakeWorld(), saves=saves, save_every=EVERY) as second,
    ):
        yield first, second


def tick_of(frame: wire.Frame) -> int:
    return read_back(decode_picture(frame))[1]


def written(saves: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in saves.glob("*.save")}


async def saved_at(saves: Path, tick: int) -> None:
    """Wait until a save of this tick is there; a state of the fake world is JSON."""
    await until(lambda: any(f"[[{tick}]".encode() in data for data in written(saves).values()))


def fall_silent(saves: Path, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> str:
    """The server of this peer beats no more, as if it had been killed."""
    assert peer.welcome is not None and peer.welcome.resume is not None
    name = peer.welcome.game.partition("-")[0]
    beat = Vault.beat

    def beat_others(vault: Vault) -> None:
        if vault._own.stem != name:
            beat(vault)

    monkeypatch.setattr(Vault, "beat", beat_others)
    past = time.time() - SILENT - 1
    os.utime(saves / f"{name}.beat", (past, past))
    return peer.welcome.resume


def test_a_game_of_a_silent_server_goes_on_elsewhere_from_its_last_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with two_halls(tmp_path) as (first, second):
            player = await first.join()
            await player.started(clock="step", seed=4)
            for action in (1, 2, 3):
                await player.act(action)
            await saved_at(tmp_path, 3)
            token = fall_silent(tmp_path, player, monkeypatch)

            back = await second.resume(token)

            assert back.welcome is not None and player.welcome is not None
            assert back.welcome.role == "driver" and back.welcome.game != player.welcome.game
            assert back.welcome.resume not in (None, token)
            assert back.welcome.restored is not None and 0.0 <= back.welcome.restored < 20.0
            frame = await back.act(5)
            assert tick_of(frame) == 4 and frame.flags & wire.RESET
            await back.say(wire.Hello(protocol=1, role="driver"))
            assert (await back.expect(wire.Welcome)).restored is None, "it was told"

            late = await second.join()  # the save is taken
            await late.say(wire.Hello(protocol=1, resume=token))
            await late.error("not_found")

    asyncio.run(run())


def test_a_game_of_a_server_that_lives_is_elsewhere(tmp_path: Path) -> None:
    async def run() -> None:
        async with two_halls(tmp_path) as (first, second):
            player = await first.join()
            await player.started(clock="step")
            await player.act(1)
            await saved_at(tmp_path, 1)
            assert player.welcome is not None and player.welcome.resume is not None

            other = await second.join()
            await other.say(wire.Hello(protocol=1, resume=player.welcome.resume))
            await other.error("elsewhere")

            assert written(tmp_path), "nobody has touched it"
            back = await first.resume(player.welcome.resume)
            assert back.welcome is not None and back.welcome.restored is None
            assert tick_of(await back.act(1)) == 2

    asyncio.run(run())


def test_nothing_is_lost_when_a_server_stops_as_it_should(tmp_path: Path) -> None:
    async def run() -> None:
        async with hall_of(FakeWorld(), saves=tmp_path, save_every=60) as second:
            async with hall_of(FakeWorld(), saves=tmp_path, save_every=60) as first:
                player = await first.join()
                await player.started(clock="step")
                for _ in range(7):
                    await player.act(1)
                assert player.welcome is not None and player.welcome.resume is not None
                assert written(tmp_path) == {}
            back = await second.resume(player.welcome.resume)
            assert tick_of(await back.act(1)) == 8

    asyncio.run(asyncio.wait_for(run(), 20))


def test_a_game_that_changes_hands_has_one_save_under_its_new_token(tmp_path: Path) -> None:
    async def run() -> None:
        async with hall_of(FakeWorld(), saves=tmp_path, save_every=EVERY) as hall:
            driver = await hall.join()
            await driver.started(clock="step")
            await driver.act(1)
            await saved_at(tmp_path, 1)
            (before,) = written(tmp_path)
            assert driver.welcome is not None
            viewer = await hall.join(f"/watch/{driver.welcome.game}")
            await driver.say(wire.Hello(protocol=1, role="viewer"))
            await driver.expect(wire.Welcome)
            await viewer.say(wire.Hello(protocol=1, role="driver"))
            await viewer.expect(wire.Welcome)
            await until(lambda: before not in written(tmp_path))
            assert len(written(tmp_path)) == 1

    asyncio.run(asyncio.wait_for(run(), 20))


def test_a_game_that_is_over_leaves_no_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lobby_module, "KEPT", 0.3)

    async def run() -> None:
        async with hall_of(FakeWorld(), saves=tmp_path, save_every=EVERY) as hall:
            player = await hall.join()
            await player.started(clock="step")
            await player.act(1)
            await saved_at(tmp_path, 1)
            await player.socket.close()
            await until(lambda: not written(tmp_path))

    asyncio.run(asyncio.wait_for(run(), 20))


def test_a_broken_save_is_a_game_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with two_halls(tmp_path) as (first, second):
            player = await first.join()
            await player.started(clock="step")
            await player.act(1)
            await saved_at(tmp_path, 1)
            token = fall_silent(tmp_path, player, monkeypatch)
            (path,) = tmp_path.glob("*.save")
            path.write_bytes(b"{}\nnothing")
            other = await second.join()
            await other.say(wire.Hello(protocol=1, resume=token))
            await other.error("not_found")

    asyncio.run(run())
    assert "a save cannot be used" in caplog.text


def test_play_goes_on_when_saves_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def run() -> None:
        async with hall_of(FakeWorld(), saves=tmp_path, save_every=EVERY) as hall:
            for name in ("write", "beat", "sweep"):
                monkeypatch.setattr(Vault, name, no_space)
            player = await hall.join()
            await player.started(clock="step")
            await player.act(1)
            await until(lambda: "a game was not saved" in caplog.text)
            assert tick_of(await player.act(1)) == 2

    asyncio.run(asyncio.wait_for(run(), 20))
    reasons = {getattr(record, "reason", None) for record in caplog.records}
    assert reasons == {os.strerror(errno.ENOSPC)}


# The folder itself --------------------------------------------------------------------------------


def test_a_save_is_claimed_once_and_the_token_is_in_no_name(tmp_path: Path) -> None:
    one, two = Vault(tmp_path, "one"), Vault(tmp_path, "two")
    one.write("one-secret", KEPT, b"first")
    one.write("one-secret", KEPT, b"a\nsnapshot")
    assert not [path for path in tmp_path.iterdir() if "secret" in path.name]

    found = two.claim("one-secret")

    assert found is not None and found[:2] == (KEPT, b"a\nsnapshot") and abs(found[2]) < 5
    assert one.claim("one-secret") is None is two.claim("nothing")


def test_what_nobody_came_back_for_is_deleted(tmp_path: Path) -> None:
    vault = Vault(tmp_path, "one")
    (tmp_path / "notes.txt").write_text("not ours")
    for token in ("old", "new", "still"):
        vault.write(token, KEPT, b"")
    past = time.time() - FORGOTTEN - 1
    for path in tmp_path.iterdir():
        if path not in (vault._path("new"), vault._own):
            os.utime(path, (past, past))
    vault.refresh("still")

    vault.sweep()

    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"notes.txt", "one.beat", vault._path("new").name, vault._path("still").name}


@pytest.mark.parametrize("name", ["", "../one", "two", "x" * 300, "one\0", "one.beat"])
def test_names_from_outside_find_no_file_and_no_server(tmp_path: Path, name: str) -> None:
    vault = Vault(tmp_path / "in", "in")
    Vault(tmp_path, "one")

    assert vault.is_alive("in") and not vault.is_alive(name)


@pytest.mark.parametrize("line", [b"", b"{}", b'{"seed":1,"clock":"never","steps":2}', b"\xff"])
def test_what_is_no_save_is_told(tmp_path: Path, line: bytes) -> None:
    vault = Vault(tmp_path, "one")
    vault.write("t", KEPT, b"")
    vault._path("t").write_bytes(line + b"\nstate")

    with pytest.raises(CheckpointError, match="not a save of a game"):
        vault.claim("t")


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    async def run() -> None:
        with pytest.raises(MachineError, match="no saves can be written there"):
            async with hall_of(FakeWorld(), saves=tmp_path / "file"):
                pass

    asyncio.run(run())


def test_servers_with_saves_have_names_of_their_own() -> None:
    def name(**config: object) -> str:
        return ServeConfig(**config).name  # type: ignore[arg-type]

    assert (name(), name(worker=2)) == ("", "2")
    names = {name(saves=Path("x"), worker=1) for _ in range(10)}
    assert len(names) == 10, "a server that was started again has not the games of before"
    with pytest.raises(ValueError, match="save_every must be above 0"):
        name(save_every=0.0)
