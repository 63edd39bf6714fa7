"""Who may open a session: pure decisions on the headers of the opening handshake.

A browser page from elsewhere must not be able to drive a server on this machine, so the Origin has
to be our own (programs send none), and on loopback the Host has to be a loopback name, which stops
a foreign name that resolves to 127.0.0.1. A token comes as `Authorization: Bearer TOKEN` or as the
sub-protocol `worldsim.token.BASE64URL`; never in the address, which ends up in logs.
"""

import base64
import ipaddress
import secrets
from collections.abc import Iterable
from http import HTTPStatus
from urllib.parse import urlsplit

from websockets.datastructures import Headers

from worldsim.server.protocol import SUBPROTOCOL, TOKEN_PREFIX

Refusal = tuple[HTTPStatus, str]


def is_loopback(host: str) -> bool:
    """Whether a host name or address can only be reached from this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def refusal(headers: Headers, *, token: str | None, only_loopback: bool) -> Refusal | None:
    """Why the handshake is refused (status, one sentence), or None when it may go on."""
    host = ", ".join(headers.get_all("Host"))
    name = urlsplit(f"//{host}").hostname or ""
    if only_loopback and not is_loopback(name):
        return HTTPStatus.FORBIDDEN, "this server answers to loopback names only\n"
    for origin in headers.get_all("Origin"):
        if urlsplit(origin).netloc != host:
            return HTTPStatus.FORBIDDEN, "pages from other origins may not connect\n"
    if token is not None and not _has_token(headers, token):
        return HTTPStatus.UNAUTHORIZED, "a token is needed: Authorization: Bearer TOKEN\n"
    return None


def select_subprotocol(offered: Iterable[str]) -> str | None:
    """Ours if it is offered; otherwise none, and the session says what is wrong and closes."""
    return SUBPROTOCOL if SUBPROTOCOL in offered else None


def token_subprotocol(token: str) -> str:
    """A token as a sub-protocol name."""
    return TOKEN_PREFIX + base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")


def _has_token(headers: Headers, token: str) -> bool:
    offered = ", ".join(headers.get_all("Sec-WebSocket-Protocol"))
    carried = [name.strip() for name in offered.split(",")]
    expected = [(name, token_subprotocol(token)) for name in carried]
    expected += [(value, f"Bearer {token}") for value in headers.get_all("Authorization")]
    return any(secrets.compare_digest(got.encode(), right.encode()) for got, right in expected)
