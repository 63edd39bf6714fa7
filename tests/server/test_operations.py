"""What those see who run a server: health, metrics, dashboards, alerts, logs, certificates."""

import asyncio
import json
import logging
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from fake_server import server_of
from fake_world import FakeWorld
from peer import Hall, meet
from prometheus_client.parser import text_string_to_metric_families
from websockets.exceptions import InvalidStatus

from worldsim.cli import main
from worldsim.clients.sync_client import Client
from worldsim.server import protocol as wire
from worldsim.server.logs import JsonLines, Lines

OPS = Path(__file__).parents[2] / "server" / "ops"
ALERTS = (OPS / "alerts.yml").read_text()
NAME = re.compile(r"worldsim_[a-z_]+")


async def get(hall: Hall, path: str, head: str = "") -> tuple[int, dict[str, str], str]:
    """Status, headers and body of an ordinary HTTP request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", hall.server.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{head}\r\n".encode())
    answer = (await reader.read()).decode()
    writer.close()
    top, _, body = answer.partition("\r\n\r\n")
    lines = top.split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    return int(lines[0].split()[1]), headers, body


def samples(text: str) -> dict[str, float]:
    """Every sample of a scrape, by name and labels."""
    return {
        sample.name + "".join(f"{{{k}={v}}}" for k, v in sample.labels.items()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_health_says_what_is_played() -> None:
    async def test(hall: Hall) -> None:
        await hall.join()
        status, headers, body = await get(hall, "/healthz")
        assert (status, headers["Content-Type"]) == (200, "application/json")
        facts = {"status": "ok", "world": "fake", "backend": "torch", "games": 1, "capacity": 8}
        assert json.loads(body) == facts

    meet(test, token=None)


def test_metrics_count_what_happens() -> None:
    async def test(hall: Hall) -> None:
        peer = await hall.join()
        await peer.started()
        await peer.say(wire.Action(1, 3))
        for _ in range(20):
            await peer.frame()
        await get(hall, "/nothing-here")
        status, headers, body = await get(hall, "/metrics")
        assert status == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4")
        found = samples(body)
        assert found["worldsim_frames_total{result=sent}"] >= 20
        assert found["worldsim_frames_total{result=late}"] >= 0
        assert found["worldsim_action_to_frame_seconds_count"] == 1
        for stage in ("model", "encode", "queue", "send"):
            assert found[f"worldsim_frame_seconds_count{{stage={stage}}}"] >= 19
        assert found["worldsim_client_lag_frames_count"] >= 15
        assert (found["worldsim_sessions"], found["worldsim_games"]) == (1, 1)
        assert found["worldsim_capacity"] == 8

    meet(test)


def test_metrics_want_the_token_and_health_does_not() -> None:
    async def test(hall: Hall) -> None:
        assert (await get(hall, "/healthz"))[0] == 200
        assert (await get(hall, "/metrics"))[0] == 401
        assert (await get(hall, "/metrics", "Authorization: Bearer secret\r\n"))[0] == 200

    meet(test, token="secret")


def test_late_ticks_degraded_frames_and_failures_are_counted() -> None:
    async def test(hall: Hall) -> None:
        peer = await hall.join()
        await peer.started(seed=7, k=4)
        for _ in range(5):
            await peer.frame()
        hall.world.raising.add(7)
        await peer.error("model")
        found = samples((await get(hall, "/metrics"))[2])
        assert found["worldsim_frames_total{result=late}"] >= 1
        assert found["worldsim_degraded_frames_total"] >= 1
        assert found["worldsim_model_failures_total"] >= 1

    meet(test, FakeWorld(predict_s=0.02, step_s=0.01))


def test_every_metric_of_the_dashboard_and_the_alerts_exists() -> None:
    dashboard = json.loads((OPS / "dashboard.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    names = set(NAME.findall(" ".join(asked) + ALERTS))

    there: set[str] = set()

    async def test(hall: Hall) -> None:
        with pytest.raises(InvalidStatus):
            await hall.join(origin="http://evil.example")
        there.update(name.split("{")[0] for name in samples((await get(hall, "/metrics"))[2]))

    meet(test)

    assert len(asked) >= 10 and len(names) >= 8
    assert names <= there
    assert {"worldsim_frames_total", "worldsim_ws_rejects_total"} <= names


def test_panels_have_ids_and_places_of_their_own() -> None:
    panels = json.loads((OPS / "dashboard.json").read_text())["panels"]

    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({(p["gridPos"]["x"], p["gridPos"]["y"]) for p in panels}) == len(panels)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs Debian's prometheus")
@pytest.mark.parametrize("check", [["rules", "alerts.yml"], ["config", "prometheus.yml"]])
def test_promtool_accepts_the_files(check: list[str]) -> None:
    kind, name = check

    done = subprocess.run(
        ["promtool", "check", kind, str(OPS / name)], capture_output=True, text=True
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs Debian's prometheus")
def test_prometheus_scrapes_a_real_server(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with server_of() as server:
        config = (OPS / "prometheus.yml").read_text().replace("8765", str(server.port))
        config = config.replace("scrape_interval: 5s", "scrape_interval: 1s")
        (tmp_path / "prometheus.yml").write_text(config)
        (tmp_path / "alerts.yml").write_text(ALERTS)
        command = ["prometheus", f"--config.file={tmp_path}/prometheus.yml"]
        command += [
            f"--storage.tsdb.path={tmp_path}/data",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 30
            while (found := asked_prometheus(port, "worldsim_capacity")) is None:
                assert time.monotonic() < deadline and process.poll() is None
                time.sleep(0.2)
            assert found > 0
            assert asked_prometheus(port, 'up{job="worldsim"}') == 1
        finally:
            process.terminate()
            process.wait()


def asked_prometheus(port: int, query: str) -> float | None:
    url = f"http://127.0.0.1:{port}/api/v1/query?query={urllib.request.quote(query)}"  # type: ignore[attr-defined]
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            result = json.load(answer)["data"]["result"]
    except OSError:
        return None
    return float(result[0]["value"][1]) if result else None


def record(message: str, **facts: Any) -> logging.LogRecord:
    found = logging.makeLogRecord({"msg": message, "levelname": "INFO", "created": 0.25})
    vars(found).update(facts)
    return found


def test_a_log_line_ends_in_what_is_known() -> None:
    assert Lines().format(record("session over", game="x", sent=3)) == (
        "worldsim: session over game=x sent=3"
    )


def test_a_log_line_of_json_is_one_line_whatever_it_holds() -> None:
    line = JsonLines().format(record("went\nwrong", reason='"\n'))

    assert "\n" not in line
    assert json.loads(line) == {
        "time": "1970-01-01T00:00:00.250+00:00",
        "level": "info",
        "message": "went\nwrong",
        "reason": '"\n',
    }


def test_an_exception_is_in_the_log() -> None:
    try:
        raise RuntimeError("oh no")
    except RuntimeError as error:
        failed = record("failed", exc_info=(type(error), error, error.__traceback__))
    assert "oh no" in Lines().format(failed)
    assert "oh no" in json.loads(JsonLines().format(failed))["trace"]


def certificate(folder: Path) -> Path:
    """A self-signed certificate for 127.0.0.1, with its key in the same file."""
    file = folder / "server.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    command += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(command, check=True, capture_output=True)
    file.write_text((folder / "key.pem").read_text() + (folder / "cert.pem").read_text())
    return file


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_a_server_with_a_certificate_speaks_tls(tmp_path: Path) -> None:
    file = certificate(tmp_path)
    trusting = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))

    async def test(hall: Hall) -> None:
        assert hall.server.url.startswith("wss://")
        peer = await hall.join(ssl=trusting)
        await peer.started()
        await peer.frame()

    meet(test, certfile=file)


def test_f04_a_token_is_made_up_and_shown_where_others_can_reach_the_address(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    configs: list[Any] = []
    monkeypatch.delenv("WORLDSIM_TOKEN", raising=False)
    monkeypatch.setattr(
        "worldsim.server.app.listen", lambda config: configs.append(config) or 1 / 0
    )

    for flags in ([], ["--insecure"], ["--host", "127.0.0.1"], ["--token", "mine"]):
        with pytest.raises(ZeroDivisionError):
            main(["serve", "--host", "0.0.0.0", *flags])

    made, insecure, loopback, given = configs
    assert len(made.token) >= 43  # 256 bits
    assert made.token in capsys.readouterr().err
    assert (insecure.token, insecure.insecure) == (None, True)
    assert (loopback.token, given.token) == (None, "mine")


@pytest.mark.slow
def test_two_workers_share_a_port_and_a_game_is_found_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "worldsim.cli", "serve", "--port", str(port)]
    process = subprocess.Popen(
        [*command, "--workers", "2", "--sessions", "4"], stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        heard = 0
        while heard < 2:
            heard += "serving doom-hall" in process.stderr.readline()
        url = f"ws://127.0.0.1:{port}"
        games, tokens = set(), []
        for seed in range(6):
            with Client.connect(url, timeout=20) as client:
                client.start(seed=seed, clock="step")
                client.step(1)
                games.add(client.world.game.split("-")[0])
                tokens.append(client.world.resume)
        assert games == {"1", "2"}
        for token in tokens:
            with Client.connect(url, resume=token, timeout=20) as client:
                assert client.world.resume == token
                assert client.step(1).header.number == 1
        process.terminate()
        assert process.wait(timeout=20) == 0
    finally:
        process.kill()
        process.wait()
