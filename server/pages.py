"""The web client over HTTP: a fixed table of files, read once, so that no path reaches the disk.

The files hold no secret and need no token. What a page may do is said in its headers: scripts,
styles and connections of this server, and nothing from anywhere else.
"""

import email.utils
import hashlib
from dataclasses import dataclass
from http import HTTPStatus
from importlib.resources import files

from websockets.datastructures import Headers
from websockets.http11 import Request, Response

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",  # sockets of the same origin included
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Cache-Control": "no-cache",  # kept, but asked about: a new version shows at once
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class Page:
    """One file, as it is sent."""

    kind: str  # Content-Type
    body: bytes

    @property
    def tag(self) -> str:
        """The same for the same bytes, and for no others."""
        return f'"{hashlib.sha256(self.body).hexdigest()[:32]}"'


def load_pages() -> dict[str, Page]:
    """The files of the web client by path; the page itself is at `/`."""
    found = {}
    for file in (files("worldsim.clients") / "web").iterdir():
        kind = TYPES.get("." + file.name.rpartition(".")[2])
        if kind is not None:
            found[f"/{file.name}"] = Page(kind, file.read_bytes())
    found["/"] = found.pop("/index.html")
    return found


def is_page_request(request: Request) -> bool:
    """Whether a browser wants to see something, not to open a socket."""
    upgrades = ", ".join(request.headers.get_all("Upgrade"))
    method = getattr(request, "method", "GET")  # older releases of websockets refuse all others
    return method == "GET" and "websocket" not in upgrades.lower()


def answer(page: Page | None, request: Request) -> Response:
    """The file, word that the browser still has it, or that there is none."""
    if page is None:
        kind = "text/plain; charset=utf-8"
        return _response(HTTPStatus.NOT_FOUND, kind, b"there is no such page\n")
    known = ", ".join(request.headers.get_all("If-None-Match"))
    if page.tag in known:
        return _response(HTTPStatus.NOT_MODIFIED, page.kind, b"", page.tag)
    return _response(HTTPStatus.OK, page.kind, page.body, page.tag)


def _response(status: HTTPStatus, kind: str, body: bytes, tag: str | None = None) -> Response:
    headers = Headers(HEADERS)
    headers["Date"] = email.utils.formatdate(usegmt=True)
    headers["Connection"] = "close"
    headers["Content-Type"] = kind
    if status is not HTTPStatus.NOT_MODIFIED:
        headers["Content-Length"] = str(len(body))
    if tag is not None:
        headers["ETag"] = tag
    return Response(status.value, status.phrase, headers, body)
