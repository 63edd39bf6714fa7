"""Every decoder of what strangers send: a value or the error that is promised, nothing else.

`make fuzz` runs it under atheris (coverage-guided; Linux), test_decoders.py with hypothesis. The
first byte of the input says which decoder gets the rest.
"""

import contextlib
import hashlib
import io
import sys
from collections.abc import Callable

if __name__ == "__main__":
    import atheris

    OURS = ["worldsim.server", "worldsim.clients", "worldsim.snapshot", "PIL"]
    with atheris.instrument_imports(include=OURS):
        import PIL.Image

        import worldsim.clients.connection
        import worldsim.server.handshake
        import worldsim.snapshot  # noqa: F401

        PIL.Image.init()  # every format

import numpy as np
import torch
from PIL import Image
from websockets.datastructures import Headers
from websockets.exceptions import InvalidHeaderValue

from worldsim.clients.connection import Conversation, ServerError
from worldsim.errors import CheckpointError, ProtocolError
from worldsim.server import media
from worldsim.server import protocol as wire
from worldsim.server.handshake import House, refusal
from worldsim.snapshot import HEADER, MAGIC, VERSION, decode_state, encode_state
from worldsim.state import WorldState

WORLD = "ab" * 32  # hash of the world of the snapshots
HOUSE = House(host="127.0.0.1", token="secret")


def request(data: bytes) -> None:
    """Text of a client."""
    wire.parse_request(data.decode("utf-8", "surrogateescape"))


def reply(data: bytes) -> None:
    """Text of a server."""
    wire.parse_reply(data.decode("utf-8", "surrogateescape"))


def frame(data: bytes) -> None:
    """A binary message of a server, as a client reads it: frame, picture, sound, objects."""
    Conversation().read(data)


def payload(data: bytes) -> None:
    """The same with a header that fits, so that the picture is looked at."""
    made = wire.Frame(number=1, width=16, height=8, picture=data, sound=data[: len(data) // 2 * 2])
    Conversation().read(wire.encode_frame(made))


def upload(data: bytes) -> None:
    """A picture that a player sends."""
    assert media.fit_picture(data, (6, 8)).shape == (6, 8, 3)


def snapshot(data: bytes) -> None:
    """A save that a player sends, with the right hashes."""
    digest = hashlib.sha256(data).digest()
    header = HEADER.pack(MAGIC, VERSION, bytes.fromhex(WORLD), digest)
    decode_state(header + data, WORLD, torch.device("cpu"))


def raw_snapshot(data: bytes) -> None:
    """A save as it comes."""
    decode_state(data, WORLD, torch.device("cpu"))


def handshake(data: bytes) -> None:
    """Headers and address of a request: without the token there is always a refusal."""
    host, origin, carried, path = [*data.decode("latin-1").split("\n"), "", "", "", ""][:4]
    headers = Headers({"Host": host, "Origin": origin, "Authorization": carried})
    address = path.encode("ascii", "ignore").decode()  # websockets refuses any other
    assert refusal(headers, address, HOUSE) is not None or carried.strip() == "Bearer secret"


DECODERS: tuple[tuple[Callable[[bytes], None], tuple[type[Exception], ...]], ...] = (
    (request, (ProtocolError,)),
    (reply, (ProtocolError,)),
    (frame, (ProtocolError, ServerError)),
    (payload, (ProtocolError,)),
    (upload, (ValueError,)),
    (snapshot, (CheckpointError,)),
    (raw_snapshot, (CheckpointError,)),
    (handshake, (InvalidHeaderValue,)),
)


def decode_one(data: bytes) -> None:
    """Give the input to its decoder; any exception but the promised ones is a finding."""
    if not data:
        return
    decode, promised = DECODERS[data[0] % len(DECODERS)]
    with contextlib.suppress(*promised):
        decode(data[1:])


def seeds() -> list[bytes]:
    """An input for each decoder that it accepts, as a start."""
    picture = media.encode_picture(np.zeros((8, 16, 3), np.uint8))
    made = wire.Frame(number=1, width=16, height=8, picture=picture, sound=b"\0\0")
    state = WorldState(**{name: torch.zeros(1) for name in WorldState.__dataclass_fields__})
    saved = encode_state(state, WORLD)
    pictures = [_picture_file(format) for format in media.FORMATS]
    accepted = [
        wire.encode(wire.Start(seed=1, clock="step", save="a", k=2)).encode(),
        wire.encode(wire.Error(code="a", message="b")).encode(),
        wire.encode_frame(made),
        picture,
        pictures[0],
        saved[HEADER.size :],
        saved,
        b"127.0.0.1:80\nhttp://127.0.0.1:80\nBearer secret\n/watch/x?a=1",
    ]
    found = [bytes([number]) + data for number, data in enumerate(accepted)]
    return found + [bytes([accepted.index(pictures[0])]) + data for data in pictures[1:]]


def _picture_file(format: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 8), "red").save(file, format)
    return file.getvalue()


def main() -> None:
    """`decoders.py [CORPUS] [-max_total_time=300 ...]`, flags of libFuzzer."""
    atheris.Setup(sys.argv, decode_one)
    atheris.Fuzz()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--seeds"]:
        from pathlib import Path

        folder = Path(sys.argv[2])
        folder.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(seeds()):
            (folder / f"seed-{number}").write_bytes(seed)
    else:
        main()
