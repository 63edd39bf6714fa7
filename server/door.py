"""The door of a server: who gets in, how many, and what is said to those who only ask how it is."""

import json
import logging
import time
from collections.abc import Sequence
from http import HTTPStatus

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from worldsim.server.flow import Taps
from worldsim.server.game import Game
from worldsim.server.handshake import (
    House,
    Refusal,
    is_loopback,
    refusal,
    select_subprotocol,
)
from worldsim.server.lobby import Lobby
from worldsim.server.metrics import CONTENT_TYPE
from worldsim.server.pages import answer, is_page_request, load_pages
from worldsim.server.scheduler import Scheduler
from worldsim.server.session import Session

log = logging.getLogger("worldsim.server")

MAX_VIEWERS = 64  # of all games together
KNOCKS = (20.0, 60)  # attempts of one address: per second, and at once
LOOKS = (100.0, 400)  # files of the web client, the same: a page is a dozen of them
TRY_AGAIN_LATER, BROKEN = 1013, 1011  # close codes
WATCH = "/watch/"
PLAIN = ("/healthz", "/metrics")  # for machines, over plain HTTP


class Door:
    """Looks at every request before anything else does."""

    def __init__(
        self, lobby: Lobby, scheduler: Scheduler, house: House, *, places: int, window: int
    ) -> None:
        self._lobby = lobby
        self._scheduler = scheduler
        self._house = house
        self._places = places
        self._window = window
        self._taps, self._page_taps = Taps(*KNOCKS), Taps(*LOOKS)
        self._pages = load_pages()
        lobby.metrics.capacity.set(places)

    def check(self, connection: ServerConnection, request: Request) -> Response | None:
        """Before the handshake: an HTTP answer for who may not come in, else None."""
        path = path_of(request)
        address = connection.remote_address[0] if connection.remote_address else ""
        is_page = path not in PLAIN and is_page_request(request)
        refused = self._refuse(request, path, address, is_page)
        if path == "/healthz" and (refused is None or refused.reason not in ("host", "origin")):
            return self._health(connection)  # also to those who have no token, or no place
        if refused is None and is_page:
            return answer(self._pages.get(path), request)
        if refused is None and path == "/metrics":
            if self._house.token is None and not is_loopback(address):
                refused = Refusal(HTTPStatus.FORBIDDEN, "metrics", "only from this machine\n")
            else:
                return self._metrics(connection)
        if refused is None:
            return None
        log.info(
            "refused a connection",
            extra={"status": refused.status.value, "reason": refused.reason, "address": address},
        )
        self._lobby.metrics.rejects.labels(refused.reason).inc()
        response = connection.respond(refused.status, refused.sentence)
        if refused.status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS):
            response.headers["Retry-After"] = "5"
        return response

    async def play(self, connection: ServerConnection) -> None:
        """One session, from its first message to its last."""
        assert connection.request is not None
        path = path_of(connection.request)
        watched = self._watched(path)
        full = self._full(path)
        if path.startswith(WATCH) and watched is None:
            full = "the game is over"
        if full is not None:  # handshakes that were under way together
            await connection.close(TRY_AGAIN_LATER, full)
            return
        self._lobby.metrics.sessions.inc()
        try:
            session = Session(
                connection,
                self._lobby,
                self._scheduler,
                window=self._window,
                watched=watched,
            )
            await session.run()
        except Exception:  # ours; it must not end without a word, nor end the others' games
            log.exception("a session broke")
            await connection.close(BROKEN, "an error of the server")
        finally:
            self._lobby.metrics.sessions.dec()

    def _refuse(self, request: Request, path: str, address: str, is_page: bool) -> Refusal | None:
        taps = self._page_taps if is_page else self._taps
        if not taps.allows(address, time.monotonic()):
            sentence = "too many attempts; slow down\n"
            return Refusal(HTTPStatus.TOO_MANY_REQUESTS, "rate", sentence)
        refused = refusal(request.headers, request.path, self._house, is_public=is_page)
        if refused is not None or is_page or path == "/metrics":
            return refused
        if path.startswith(WATCH) and self._lobby.is_elsewhere(path.removeprefix(WATCH)):
            sentence = "another worker has that game; connect again\n"
            return Refusal(HTTPStatus.MISDIRECTED_REQUEST, "elsewhere", sentence)
        if path.startswith(WATCH) and self._watched(path) is None:
            return Refusal(HTTPStatus.NOT_FOUND, "path", "there is no such game\n")
        full = self._full(path)
        if full is not None:
            sentence = f"{full}; try again later\n"
            return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "full", sentence)
        return None

    def _watched(self, path: str) -> Game | None:
        return self._lobby.games.get(path.removeprefix(WATCH)) if path.startswith(WATCH) else None

    def _full(self, path: str) -> str | None:
        """Why there is no room for one more, or None."""
        if path.startswith(WATCH):
            is_full = self._lobby.viewers >= MAX_VIEWERS
            return f"all {MAX_VIEWERS} seats of viewers are taken" if is_full else None
        is_full = self._lobby.places_taken >= self._places
        return f"all {self._places} places are taken" if is_full else None

    def _health(self, connection: ServerConnection) -> Response:
        facts = {
            "status": "ok",
            "world": self._lobby.engine.world.name,
            "backend": self._lobby.engine.world.backend,
            "games": self._lobby.places_taken,
            "capacity": self._places,
        }
        response = connection.respond(HTTPStatus.OK, json.dumps(facts) + "\n")
        del response.headers["Content-Type"]
        response.headers["Content-Type"] = "application/json"
        return response

    def _metrics(self, connection: ServerConnection) -> Response:
        text = self._lobby.metrics.text().decode()
        response = connection.respond(HTTPStatus.OK, text)
        del response.headers["Content-Type"]
        response.headers["Content-Type"] = CONTENT_TYPE
        return response


def path_of(request: Request) -> str:
    """The path that was asked for, without what stands behind the question mark."""
    return request.path.partition("?")[0]


def select(_: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """The sub-protocol of a connection; without one the session says why it closes."""
    chosen = select_subprotocol(offered)
    return None if chosen is None else Subprotocol(chosen)
