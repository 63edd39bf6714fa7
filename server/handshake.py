"""Who may open a session: pure decisions on the headers of the opening handshake.

A browser page from elsewhere must not be able to drive a server on this machine, so the Origin has
to be our own (programs send none) and the Host a name that we go by. A token comes as
`Authorization: Bearer TOKEN` or as the sub-protocol `worldsim.token.BASE64URL`; never in the
address, which ends up in logs.
"""

import base64
import ipaddress
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

from websockets.datastructures import Headers

from worldsim.server.protocol import SUBPROTOCOL, TOKEN_PREFIX


@dataclass(frozen=True)
class Refusal:
    """Why somebody does not get in: for HTTP, in one word for the metrics, in one sentence."""

    status: HTTPStatus
    reason: str
    sentence: str


@dataclass(frozen=True, kw_only=True)
class House:
    """Who is let in."""

    host: str  # the address that is listened on
    token: str | None
    names: frozenset[str] = frozenset()  # of this machine, where strangers' names are not believed

    def knows(self, name: str) -> bool:
        """Whether a client may call us `name`. A foreign name that resolves to this machine is how
        a web page gets past a browser (DNS rebinding); a token stops it just as well."""
        if is_loopback(self.host):
            return is_loopback(name)
        if self.token is not None or name in self.names or name == self.host or is_loopback(name):
            return True
        try:
            return bool(ipaddress.ip_address(name))
        except ValueError:
            return False


def is_loopback(host: str) -> bool:
    """Whether a host name or address can only be reached from this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def refusal(
    headers: Headers, path: str, house: House, *, is_public: bool = False
) -> Refusal | None:
    """Why the request is refused, or None when it may go on; what is public needs no token."""
    host = ", ".join(headers.get_all("Host"))
    try:
        name = urlsplit(f"//{host}").hostname or ""
        asked = parse_qs(urlsplit(path).query, keep_blank_values=True)
        origins = [urlsplit(origin).netloc for origin in headers.get_all("Origin")]
    except ValueError:  # such as an address of IPv6 without its end
        return Refusal(HTTPStatus.BAD_REQUEST, "malformed", "not an address\n")
    if not house.knows(name):
        sentence = "this server does not answer to that name; use its address\n"
        return Refusal(HTTPStatus.FORBIDDEN, "host", sentence)
    if any(origin != host for origin in origins):
        sentence = "pages from other origins may not connect\n"
        return Refusal(HTTPStatus.FORBIDDEN, "origin", sentence)
    if "token" in asked:
        sentence = "no token in an address: addresses are logged; see docs/protocol.md\n"
        return Refusal(HTTPStatus.UNAUTHORIZED, "token", sentence)
    if not is_public and house.token is not None and not _has_token(headers, house.token):
        sentence = "a token is needed: Authorization: Bearer TOKEN\n"
        return Refusal(HTTPStatus.UNAUTHORIZED, "token", sentence)
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
    return any(secrets.compare_digest(_bytes(got), _bytes(right)) for got, right in expected)


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")  # older websockets: bytes that are not ASCII
