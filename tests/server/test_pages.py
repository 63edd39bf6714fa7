"""The files of the web client over plain HTTP, and what is refused."""

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import pytest
from fake_world import FakeWorld
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from worldsim.cli import main
from worldsim.server import door
from worldsim.server.app import Running, ServeConfig, running
from worldsim.server.pages import POLICY, load_pages


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


def serving(test: Callable[[Running], Awaitable[None]], **config: Any) -> None:
    async def run() -> None:
        async with (
            asyncio.timeout(15),
            running(FakeWorld(), ServeConfig(port=0, **config)) as server,  # type: ignore[arg-type]
        ):
            await test(server)

    asyncio.run(run())


async def get(server: Running, path: str, method: str = "GET", **headers: str) -> Answer:
    """The path as it stands: no client in between that would tidy it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    lines = {"Host": f"127.0.0.1:{server.port}", **headers}
    text = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items())
    writer.write(f"{method} {path} HTTP/1.1\r\n{text}\r\n".encode())
    data = await reader.read()
    writer.close()
    head, _, body = data.partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    pairs = [line.split(": ", 1) for line in rest]
    return Answer(int(first.split()[1]), {name.lower(): value for name, value in pairs}, body)


def test_every_file_of_the_page_is_served_as_what_it_is() -> None:
    kinds = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg"}

    async def test(server: Running) -> None:
        for file in (files("worldsim.clients") / "web").iterdir():
            path = "/" if file.name == "index.html" else f"/{file.name}"
            answer = await get(server, path)
            assert answer.status == 200 and answer.body == file.read_bytes()
            assert answer.headers["content-type"].startswith(kinds[file.name.split(".")[-1]])
            assert answer.headers["content-length"] == str(len(answer.body))
            assert answer.headers["content-security-policy"] == POLICY
            assert answer.headers["x-content-type-options"] == "nosniff"

    serving(test)


def test_the_policy_lets_nothing_in_from_elsewhere() -> None:
    assert POLICY.startswith("default-src 'none'; ")
    assert "unsafe" not in POLICY and "*" not in POLICY and "http" not in POLICY


def test_the_page_names_only_files_that_are_served() -> None:
    pages = load_pages()
    texts = {path: page.body.decode() for path, page in pages.items()}
    named = re.findall(r'(?:src|href)="([^"#]+)"', texts["/"])
    for path, text in texts.items():
        if path.endswith(".js"):
            named += re.findall(r'from "\./([^"]+)"', text)

    assert named and {f"/{name}" for name in named} <= pages.keys()
    assert {path for path in pages if path.endswith(".js")} == {
        f"/{name}" for name in named if name.endswith(".js")
    }
    assert not [text for text in texts.values() if re.search(r"https?://(?!www\.w3\.org/)", text)]


def test_a_file_that_the_browser_has_is_not_sent_again() -> None:
    async def test(server: Running) -> None:
        first = await get(server, "/main.js")
        again = await get(server, "/main.js", If_None_Match=first.headers["etag"])
        other = await get(server, "/main.js", If_None_Match='"0"')

        assert first.headers["cache-control"] == "no-cache"
        assert (again.status, again.body) == (304, b"")
        assert other.status == 200

    serving(test)


@pytest.mark.parametrize(
    "path",
    [
        "/../pyproject.toml",
        "/..%2f..%2fpyproject.toml",
        "/web/../main.js",
        "//main.js",
        "/./main.js",
        "/main.js/",
        "/index.html",
        "/__init__.py",
        "/main.js%00",
        "main.js",
        "file:///etc/passwd",
    ],
)
def test_no_path_leads_out_of_the_table(path: str) -> None:
    async def test(server: Running) -> None:
        answer = await get(server, path)
        assert answer.status == 404
        assert answer.headers["content-security-policy"] == POLICY

    serving(test)


def test_pages_need_our_name_and_no_token() -> None:
    async def test(server: Running) -> None:
        assert (await get(server, "/")).status == 200
        assert (await get(server, "/", Host="evil.example")).status == 403
        assert (await get(server, "/main.js", Origin="http://evil.example")).status == 403
        assert (await get(server, "/?token=secret")).status == 401
        upgrade = {"Connection": "Upgrade", "Upgrade": "websocket"}
        assert (await get(server, "/", **upgrade)).status == 401  # to play, one does

    async def elsewhere(server: Running) -> None:
        name = f"evil.example:{server.port}"
        assert (await get(server, "/", Host=name)).status == 403

    serving(test, token="secret")
    serving(elsewhere, host="0.0.0.0", insecure=True)


def test_only_looking_is_possible() -> None:
    async def test(server: Running) -> None:
        assert (await get(server, "/", method="POST")).status in (400, 405)

    serving(test)


def test_pages_are_served_while_all_places_are_taken() -> None:
    async def test(server: Running) -> None:
        async with connect(server.url, subprotocols=[Subprotocol("worldsim.v1")]) as player:
            await player.recv()
            upgrade = {"Connection": "Upgrade", "Upgrade": "websocket"}

            assert (await get(server, "/", **upgrade)).status == 503
            assert (await get(server, "/")).status == 200

    serving(test, max_sessions=1)


def test_one_address_cannot_ask_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "LOOKS", (0.1, 5))

    async def test(server: Running) -> None:
        statuses = [(await get(server, "/")).status for _ in range(7)]
        assert statuses == [200] * 5 + [429] * 2

    serving(test)


def test_a_made_up_token_is_told_as_a_link(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = taken.getsockname()[1]

        assert main(["serve", "--host", "0.0.0.0", "--port", str(port)]) == 4

    assert re.search(rf"http://[^/ ]+:{port}/#token=[\w-]{{43}}\b", capsys.readouterr().err)
