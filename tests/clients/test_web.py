"""The web client in real Chromium, against a real server around the fake world."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import tab
from fake_server import server_of
from fake_world import FakeOutput, FakePrediction, FakeState, FakeWorld

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

RATE = 20.0  # slow enough for a busy machine
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
ON_ITS_SIDE = {**PHONE, "viewport": {"width": 844, "height": 390}}
DESK = {"viewport": {"width": 1440, "height": 900}}
FORWARD, TURN_RIGHT, ATTACK, FORWARD_RIGHT = 1, 4, 5, 7


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def test_held_keys_change_the_picture_and_combine(browser: Any) -> None:
    with server_of(rate=RATE) as server, tab(browser, server.url) as page:
        page.opened()
        page.page.keyboard.down("ArrowRight")
        page.until(lambda: page.action == TURN_RIGHT)
        page.page.keyboard.down("w")
        page.until(lambda: page.action == FORWARD_RIGHT)
        page.page.keyboard.up("ArrowRight")
        page.until(lambda: page.action == FORWARD)
        page.page.keyboard.up("w")
        page.until(lambda: page.action == 0)


def test_the_shortest_tap_is_seen(browser: Any) -> None:
    world = SeeingWorld()
    with server_of(world, rate=RATE) as server, tab(browser, server.url) as page:
        page.opened()
        page.page.keyboard.press("Space")
        page.until(lambda: ATTACK in world.actions_seen)


def test_the_overlay_measures(browser: Any) -> None:
    with server_of(rate=RATE) as server, tab(browser, server.url) as page:
        page.opened()
        for _ in range(10):
            page.page.keyboard.press("Space")
            page.page.wait_for_timeout(120)
        page.page.wait_for_timeout(600)

        assert RATE / 2 < float(page.text("#fps")) < 1.2 * RATE
        p50, p99 = (float(page.text(name).removesuffix(" ms")) for name in ("#p50", "#p99"))
        assert 1 < p50 <= p99 < 2000
        assert int(page.text("#missed")) >= 0
        assert page.text(".badge") == "AI-generated"


def test_saving_downloads_a_file_that_loads(browser: Any, tmp_path: Path) -> None:
    with server_of(rate=RATE) as server, tab(browser, server.url) as page:
        page.opened()
        page.until(lambda: 20 < page.tick < 80)
        with page.page.expect_download() as download:
            page.page.click("#save")
        path = tmp_path / download.value.suggested_filename
        download.value.save_as(path)
        tick = FakeWorld().restore(path.read_bytes()).tick[0] % 100
        assert path.name.startswith("fake-") and path.suffix == ".state"

        page.until(lambda: abs(page.tick - tick) > 10)
        page.page.click("#pause")
        page.page.set_input_files("#file", path)  # a paused world shows one frame of it

        page.until(lambda: page.tick == tick + 1)
        page.page.set_input_files("#file", {"name": "x", "mimeType": "", "buffer": b"garbage"})
        page.until(lambda: "not a snapshot" in page.text("#toast").lower())


def test_a_picture_begins_a_new_story(browser: Any) -> None:
    world = SeeingWorld()
    picture = Path(__file__).parents[2] / "docs" / "play.png"
    with server_of(world, rate=RATE) as server, tab(browser, server.url) as page:
        page.opened()
        page.page.set_input_files("#file", picture)
        page.until(lambda: "from your picture" in page.text("#toast"))

        assert world.contexts == 1


def test_holding_a_key_rewinds(browser: Any) -> None:
    with server_of(rate=RATE) as server, tab(browser, server.url) as page:
        page.opened()
        page.until(lambda: 40 < page.tick < 70)
        before = page.tick
        page.page.keyboard.down("Backspace")
        page.until(lambda: page.tick < before - 10)
        assert page.text("#hint").startswith("\u2212")
        page.page.keyboard.up("Backspace")
        low = page.tick
        page.until(lambda: page.tick > low + 5)  # and on it goes


def test_a_fork_plays_in_a_second_tab(browser: Any) -> None:
    with (
        server_of(rate=RATE, token="geheim") as server,
        tab(browser, f"{server.url}/#token=geheim") as page,
    ):
        page.opened()
        page.page.click("#fork")
        page.page.wait_for_selector("#toast a")
        with tab(browser, page.page.get_attribute("#toast a", "href")) as other:
            other.opened()
            before = other.tick
            other.until(lambda: other.tick != before)
            assert page.state == "open"
            assert "resume" not in other.page.url and "geheim" not in other.page.url


def test_the_token_leaves_the_address_bar(browser: Any) -> None:
    with (
        server_of(rate=RATE, token="a+b \u00e9") as server,
        tab(browser, f"{server.url}/#token=a%2Bb%20%C3%A9") as page,
    ):
        page.opened()
        assert "#" not in page.page.url and "token" not in page.page.url
        page.page.reload()
        page.opened()  # the tab remembers it


def test_without_a_token_the_page_asks_for_one(browser: Any) -> None:
    with (
        server_of(rate=RATE, token="geheim") as server,
        tab(browser, server.url, outage=True) as page,
    ):
        page.until(lambda: page.state == "over")
        page.page.fill("#token", "geheim")
        page.page.keyboard.press("Enter")
        page.opened()


def test_reloading_and_losing_the_line_come_back_to_the_same_game(browser: Any) -> None:
    world = SeeingWorld()
    with server_of(world, rate=RATE) as server, tab(browser, server.url, outage=True) as page:
        page.opened()
        page.page.reload()
        page.opened()
        page.page.context.set_offline(True)
        page.until(lambda: page.state == "waiting")
        assert page.text("#curtain-title") == "Connection lost"
        page.page.context.set_offline(False)
        page.opened()
        page.page.keyboard.down("Space")
        page.until(lambda: page.action == ATTACK)

        assert world.begun == 1


def test_a_viewer_watches_and_is_given_the_controls(browser: Any) -> None:
    with server_of(rate=RATE) as server, tab(browser, server.url) as driver:
        driver.opened()
        driver.page.click("#invite")
        link = driver.page.get_attribute("#toast a", "href")
        with tab(browser, link) as viewer:
            viewer.opened()
            assert viewer.role == "viewer" and viewer.page.is_hidden("#save")
            viewer.page.keyboard.down("Space")
            driver.page.keyboard.down("ArrowUp")
            viewer.until(lambda: viewer.action == FORWARD)
            viewer.page.keyboard.up("Space")
            driver.page.keyboard.up("ArrowUp")
            driver.page.click("#pause")  # who takes over should not find a world that stands still
            viewer.page.click("#ask")
            driver.page.click("#toast button")
            viewer.until(lambda: viewer.role == "driver")
            driver.until(lambda: driver.role == "viewer")
            viewer.page.keyboard.down("Space")
            driver.until(lambda: driver.action == ATTACK)


def test_a_full_server_is_waited_for(browser: Any) -> None:
    with server_of(rate=RATE, max_sessions=1) as server, tab(browser, server.url) as first:
        first.opened()
        with tab(browser, server.url) as second:
            second.until(lambda: "All places are taken" in second.text("#curtain-text"))
            first.page.goto("about:blank")
            second.opened()


def test_a_chosen_key_is_kept(browser: Any) -> None:
    with server_of(rate=RATE) as server, tab(browser, server.url, **DESK) as page:
        page.opened()
        page.page.click("[data-bind=attack]")
        page.page.keyboard.press("f")
        assert page.text("[data-bind=attack]") == "F"
        page.page.keyboard.down("f")
        page.until(lambda: page.action == ATTACK)
        page.page.keyboard.up("f")
        page.page.reload()
        page.opened()
        assert page.text("[data-bind=attack]") == "F"
        page.page.click("#default-keys")
        assert page.text("[data-bind=attack]") == "Space"


def test_fingers_play(browser: Any) -> None:
    with server_of(rate=RATE) as server, tab(browser, server.url, **PHONE) as page:
        page.opened()
        box = page.page.locator("#pad").bounding_box()
        page.page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 0.2 * box["height"])
        page.page.mouse.down()
        page.until(lambda: page.action == FORWARD_RIGHT)
        page.page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.1 * box["height"])
        page.until(lambda: page.action == FORWARD)
        page.page.mouse.up()
        page.until(lambda: page.action == 0)
        fire = page.page.locator("#fire").bounding_box()
        page.page.mouse.move(fire["x"] + 50, fire["y"] + 50)
        page.page.mouse.down()
        page.until(lambda: page.action == ATTACK)


GAMEPAD = """
const pad = { connected: true, axes: [0, 0], buttons: [] };
window.pad = pad;
navigator.getGamepads = () => [pad];
"""


def test_a_gamepad_plays(browser: Any) -> None:
    with server_of(rate=RATE) as server, tab(browser, server.url) as page:
        page.opened()
        page.page.evaluate(GAMEPAD + 'dispatchEvent(new Event("gamepadconnected"));')
        page.page.evaluate("pad.axes = [0.9, -0.9]; null")
        page.until(lambda: page.action == FORWARD_RIGHT)
        page.page.evaluate("pad.axes = [0, 0]; pad.buttons[0] = { pressed: true }; null")
        page.until(lambda: page.action == ATTACK)


COUNT_SOUND = """
window.heard = 0;
const start = AudioBufferSourceNode.prototype.start;
AudioBufferSourceNode.prototype.start = function (when) {
  window.heard += this.buffer.length;
  window.loudest = Math.max(...this.buffer.getChannelData(0));
  return start.call(this, when);
};
null
"""


def test_sound_and_objects_are_heard_and_seen(browser: Any) -> None:
    world = SeeingWorld(has_extras=True, sample_rate=8000.0)
    with server_of(world, rate=RATE) as server, tab(browser, server.url, **DESK) as page:
        page.opened()
        page.page.evaluate(COUNT_SOUND)
        page.page.keyboard.press("Space")
        page.until(lambda: page.page.evaluate("window.heard") > 2000)
        assert abs(page.page.evaluate("window.loudest") - 0.5) < 0.01
        assert page.page.is_hidden("#objects")
        page.page.check("#show-objects")
        page.until(lambda: page.page.is_visible("#objects"))
        page.page.uncheck("#show-sound")
        page.page.wait_for_timeout(300)
        before = page.page.evaluate("window.heard")
        page.page.wait_for_timeout(300)
        assert page.page.evaluate("window.heard") == before


@pytest.mark.parametrize("size", [PHONE, ON_ITS_SIDE, DESK])
def test_everything_fits_on_the_screen(browser: Any, size: dict[str, Any]) -> None:
    with server_of(rate=RATE) as server, tab(browser, server.url, **size) as page:
        page.opened()
        width, height = size["viewport"]["width"], size["viewport"]["height"]
        names = ["#screen", ".badge", "#save", "#reset", "#figures"]
        names += ["#pad", "#fire", "#menu"] if "has_touch" in size else ["#actions"]
        for name in names:
            box = page.page.locator(name).bounding_box()
            assert box is not None, name
            assert box["x"] >= 0 and box["x"] + box["width"] <= width, name
            assert box["y"] >= 0 and box["y"] + box["height"] <= height, name
        picture = page.page.locator("#screen").bounding_box()
        assert picture["width"] % 64 == 0 and picture["width"] >= 256  # whole pixels of the world
        assert page.page.evaluate(NAMELESS) == []


NAMELESS = """
[...document.querySelectorAll("button, a, input, select, canvas")]
  .filter((e) => e.checkVisibility() && !e.closest("[aria-hidden]"))
  .filter((e) => !(e.ariaLabel || e.innerText?.trim() || e.textContent.trim() || e.labels?.length))
  .map((e) => e.outerHTML)
"""

SERVE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from fake_world import FakeWorld
from worldsim.server.app import ServeConfig, run
saves = Path(sys.argv[3]) if sys.argv[3] else None
run(FakeWorld(), ServeConfig(port=int(sys.argv[1]), rate=20.0, saves=saves, save_every=0.2))
"""


def serve(port: int, saves: Path | str = "") -> "subprocess.Popen[bytes]":
    folder = Path(__file__).parents[1] / "server"
    words = [sys.executable, "-c", SERVE, str(port), str(folder), str(saves)]
    process = subprocess.Popen(words, env={**os.environ, "PYTHONWARNINGS": "ignore"})
    while process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
    return process


def port_of_nobody() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_game_goes_on_when_its_server_was_killed_but_kept_saves(
    browser: Any, tmp_path: Path
) -> None:
    port = port_of_nobody()
    process = serve(port, tmp_path)
    try:
        with tab(browser, f"ws://127.0.0.1:{port}", outage=True) as page:
            page.opened()
            page.until(lambda: bool(list(tmp_path.glob("*.save"))))
            for _ in range(2):  # the second time with the token that the first one brought
                process.send_signal(signal.SIGKILL)
                process.wait()
                page.until(lambda: page.state == "waiting")
                page.page.evaluate("document.getElementById('toast').textContent = ''")
                process = serve(port, tmp_path)
                page.opened()
                page.until(lambda: "goes on from a save" in page.text("#toast"))
            page.page.keyboard.down("Space")
            page.until(lambda: page.action == ATTACK)
    finally:
        process.kill()
        process.wait()


def test_a_killed_server_is_found_again(browser: Any) -> None:
    port = port_of_nobody()
    process = serve(port)
    try:
        with tab(browser, f"ws://127.0.0.1:{port}", outage=True) as page:
            page.opened()
            process.send_signal(signal.SIGKILL)
            process.wait()
            page.until(lambda: page.state == "waiting")
            assert "does not answer" in page.text("#curtain") or "lost" in page.text("#curtain")
            process = serve(port)
            page.opened()
            page.until(lambda: "this is a new one" in page.text("#toast"))
            page.page.keyboard.down("Space")
            page.until(lambda: page.action == ATTACK)
    finally:
        process.kill()
        process.wait()


@dataclass
class SeeingWorld(FakeWorld):
    """Also remembers what it was asked."""

    actions_seen: set[int] = field(default_factory=set)
    begun: int = 0
    contexts: int = 0

    def arm(self) -> None:
        super().arm()
        self.actions_seen.clear()
        self.begun = self.contexts = 0

    def reset(self, frames: Any = None, seed: int = 0, batch: int = 1) -> FakeState:
        self.begun += 1
        self.contexts += frames is not None
        return super().reset(frames, seed, batch)

    def predict(self, state: FakeState, action: Any, **options: Any) -> FakePrediction:
        self.actions_seen.update(np.atleast_1d(action).tolist())
        done = super().predict(state, action, **options)
        if not self.has_extras:
            return done
        audio = np.full((state.batch, 400), 0.5, np.float32)  # 8,000 Hz at 20 frames a second
        output: FakeOutput = replace(done.output, audio=audio)
        return replace(done, output=output)
