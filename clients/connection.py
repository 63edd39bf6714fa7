"""What both Python clients share: frames as arrays, errors as exceptions, the counting of actions.

No I/O here except `dial`, which opens the connection.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus, InvalidURI
from websockets.typing import Subprotocol

from worldsim.errors import MachineError, WorldsimError
from worldsim.server import protocol as wire
from worldsim.server.media import decode_objects, decode_picture, decode_sound

MAX_FRAME = 64 * 1024 * 1024  # bytes of one message from the server


class ServerError(WorldsimError):
    """The server refused a request, or ended the session; `code` says why in one word."""

    exit_code = 4

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a client may wish for; None leaves it as it is."""

    k: Literal[1, 2, 4] | None = None  # flow steps per frame
    quality: int | None = None  # of the JPEG, 10..100
    sound: bool | None = None  # whether it is sent
    objects: bool | None = None


DEFAULTS = Settings()


@dataclass(frozen=True, kw_only=True)
class RemoteFrame:
    """One frame as the client sees it.

    `latency_ms` is measured on this machine's clock, from sending the newest action that the frame
    reflects to having the frame; None when no new action is reflected.
    """

    frame: NDArray[np.uint8]  # (H, W, 3)
    sound: NDArray[np.float32]  # (n,), n = 0 for a silent world
    objects: NDArray[np.float32]  # (K, D), K = 0 for none
    header: wire.Frame
    latency_ms: float | None


class Conversation:
    """The client's side of the protocol on values: numbers actions, reads what comes."""

    def __init__(self) -> None:
        self._sent: dict[int, float] = {}  # seq -> when, for actions not yet reflected
        self._seq = 0
        self._uploads = 0

    def action(self, action: int | Sequence[float]) -> wire.Action:
        """The next action message: of a code, or of a float per axis."""
        self._seq += 1
        self._sent[self._seq] = time.perf_counter()
        if isinstance(action, Sequence | np.ndarray):
            return wire.Action(self._seq, axes=tuple(map(float, action)))
        return wire.Action(self._seq, int(action))

    def upload(self, kind: wire.UploadKind, data: bytes) -> tuple[wire.Upload, list[bytes]]:
        """The announcement of an upload, and its chunks; ValueError if there is too much of it."""
        if not 0 < len(data) <= wire.MAX_UPLOAD:
            raise ValueError(f"an upload has 1..{wire.MAX_UPLOAD} bytes, got {len(data)}")
        self._uploads += 1
        size = wire.MAX_MESSAGE
        chunks = [data[at : at + size] for at in range(0, len(data), size)]
        announced = wire.Upload(id=self._uploads, kind=kind, size=len(data))
        return announced, chunks

    def read(self, data: str | bytes) -> RemoteFrame | wire.Chunk | wire.Reply:
        """What the server sent. Raises ServerError if it is an error, ProtocolError if nonsense."""
        if isinstance(data, bytes):
            item = wire.decode_binary(data)
            return self._frame(item) if isinstance(item, wire.Frame) else item
        reply = wire.parse_reply(data)
        if isinstance(reply, wire.Error):
            raise ServerError(reply.code, reply.message)
        return reply

    def _frame(self, header: wire.Frame) -> RemoteFrame:
        pixels = decode_picture(header)
        sent = self._sent.get(header.action_seq)
        if sent is not None:
            self._sent = {seq: at for seq, at in self._sent.items() if seq > header.action_seq}
        return RemoteFrame(
            frame=pixels,
            sound=decode_sound(header),
            objects=decode_objects(header),
            header=header,
            latency_ms=None if sent is None else 1e3 * (time.perf_counter() - sent),
        )


async def dial(
    url: str, *, token: str | None, timeout: float, watch: str | None = None
) -> ClientConnection:
    """Open a connection to a worldsim server; to look at the game with the id `watch`, if given.

    Raises MachineError if nothing answers there, ServerError if the server does not let us in.
    """
    protocols = [Subprotocol(wire.SUBPROTOCOL)]
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    url = url if watch is None else f"{url.rstrip('/')}/watch/{watch}"
    try:
        return await connect(
            url,
            subprotocols=protocols,
            additional_headers=headers,
            compression=None,
            max_size=MAX_FRAME,
            open_timeout=timeout,
            close_timeout=1.0,
            proxy=None,
        )
    except InvalidURI as error:
        raise MachineError(f"{url!r} is not an address like ws://127.0.0.1:8765") from error
    except InvalidStatus as error:
        raise _turned_away(url, error) from error
    except InvalidHandshake as error:
        raise MachineError(f"what answers at {url} is not a worldsim server: {error}") from error
    except (OSError, TimeoutError) as error:
        raise MachineError(f"no server answers at {url}; `worldsim serve` starts one") from error


def _turned_away(url: str, error: InvalidStatus) -> ServerError:
    status = error.response.status_code
    said = (error.response.body or b"").decode("utf-8", "replace").strip()
    if status == 401:
        hint = "give --token, or set WORLDSIM_TOKEN"
        return ServerError("unauthorized", f"{url} wants another token: {hint}")
    if status == 421:
        return ServerError("elsewhere", f"{url}: {said}")
    return ServerError("turned_away", f"{url} lets nobody in ({status}): {said}")
