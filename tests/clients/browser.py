"""A page of the web client in Chromium, and what a test wants to know of it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

WATCH_POLICY = """
window.violations = [];
addEventListener("securitypolicyviolation", (event) => violations.push(event.blockedURI));
"""
OF_AN_OUTAGE = ("ERR_CONNECTION_REFUSED", "ERR_INTERNET_DISCONNECTED", "WebSocket connection to")
OF_THE_TEST = "willReadFrequently"  # it is us who read the canvas all the time
LIMIT = 15.0  # seconds


class Tab:
    """One page. `errors` are what its console complained about."""

    def __init__(self, page: Any, url: str) -> None:
        self.page = page
        self.errors: list[str] = []
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.goto(url.replace("ws", "http", 1))

    def _hear(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(message.text)

    @property
    def state(self) -> str:
        return str(self.page.evaluate("document.body.dataset.state"))

    @property
    def role(self) -> str:
        return str(self.page.evaluate("document.body.dataset.role"))

    def opened(self) -> "Tab":
        self.until(lambda: self.state == "open")
        return self

    def text(self, selector: str) -> str:
        return str(self.page.inner_text(selector))

    def grey(self, side: str = "left") -> float:
        """Mean grey level of one half of the picture."""
        return float(
            self.page.evaluate(
                """(side) => {
                  const canvas = document.getElementById("screen");
                  const half = canvas.width / 2;
                  const left = side === "left" ? 4 : half + 8;
                  const context = canvas.getContext("2d");
                  const { data } = context.getImageData(left, 4, half - 12, canvas.height - 8);
                  let sum = 0;
                  for (let i = 0; i < data.length; i += 4) sum += data[i];
                  return (4 * sum) / data.length;
                }""",
                side,
            )
        )

    @property
    def action(self) -> int:
        """The action that the fake world shows."""
        return round(self.grey("left") / 30)

    @property
    def tick(self) -> int:
        """The tick that it shows, modulo 100."""
        return round(self.grey("right") / 2)

    def until(self, claim: Callable[[], bool], limit: float = LIMIT) -> None:
        """Wait for something to become true, and for the page meanwhile."""
        deadline = time.monotonic() + limit
        while not claim():
            assert time.monotonic() < deadline, f"state {self.state}: {self.text('body')[:400]}"
            self.page.wait_for_timeout(20)

    def well(self, outage: bool = False) -> None:
        """Nothing was blocked and nothing went wrong, but for an outage if there was one."""
        assert self.page.evaluate("window.violations") == []
        known = (OF_THE_TEST, *(OF_AN_OUTAGE if outage else ()))
        unknown = [text for text in self.errors if not any(part in text for part in known)]
        assert unknown == [], unknown


@contextmanager
def tab(browser: Any, url: str, outage: bool = False, **options: Any) -> Iterator[Tab]:
    """A page in a context of its own; it has to end `well`."""
    context = browser.new_context(**options)
    try:
        context.add_init_script(WATCH_POLICY)
        one = Tab(context.new_page(), url)
        yield one
        one.well(outage)
    finally:
        context.close()
