"""The wire format `worldsim.v1`: pure functions between values and bytes, no I/O.

Control is JSON text, one object with a `type`; it is here. Frames and chunks are binary; they are
in frames.py, and named here as well so that one import is the whole format. docs/protocol.md says
the same in prose, with byte offsets; tests/server/test_protocol.py holds the two together.

Whatever bytes come in, `parse_request`, `parse_reply` and `decode_binary` return a message or raise
ProtocolError, nothing else.
"""

import re
from typing import Annotated, Literal, TypeVar

import msgspec

from worldsim.errors import ProtocolError
from worldsim.server.frames import (
    AI_GENERATED,
    ALARM,
    DEGRADED,
    HEADER,
    JPEG,
    RESET,
    VERSION,
    Chunk,
    Frame,
    decode_binary,
    decode_frame,
    encode_chunk,
    encode_frame,
)

__all__ = [  # of frames.py
    "AI_GENERATED",
    "ALARM",
    "DEGRADED",
    "HEADER",
    "JPEG",
    "RESET",
    "VERSION",
    "Chunk",
    "Frame",
    "decode_binary",
    "decode_frame",
    "encode_chunk",
    "encode_frame",
]

SUBPROTOCOL = "worldsim.v1"
TOKEN_PREFIX = "worldsim.token."  # a browser cannot set headers: the token as a sub-protocol
MAX_MESSAGE = 16 * 1024  # bytes of one message from a client, chunks of an upload included
MAX_UPLOAD = 16 * 1024 * 1024  # bytes of one announced upload

U32 = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
U63 = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Clock = Literal["open", "step"]
Role = Literal["driver", "viewer"]
UploadKind = Literal["picture", "snapshot"]
T = TypeVar("T")


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every control message; `type` is the tag."""


# From the client ---------------------------------------------------------------------------------


class Hello(Message, frozen=True, tag="hello"):
    """Optional: who is speaking, and in which version of the protocol.

    `resume` takes up a game that was left, or forked, with this token. `role` "driver" asks for the
    controls of the game that one watches, "viewer" gives them away.
    """

    protocol: U32
    agent: Annotated[str, msgspec.Meta(max_length=64)] = ""
    resume: Annotated[str, msgspec.Meta(max_length=64)] | None = None
    role: Role | None = None


class Start(Message, frozen=True, tag="start"):
    """Begin anew, or with `keep` only change the clock and the settings.

    `clock`: "open" ticks at the announced rate whatever the client does; "step" makes one tick per
    action. `upload` names a picture or a snapshot that was uploaded, `save` a state that was saved:
    the world starts from it. The settings `k` (flow steps), `quality` (of the JPEG), `sound` and
    `objects` (whether they are sent) stay as they are when left out.
    """

    seed: U63 = 0
    clock: Clock = "open"
    keep: bool = False
    upload: U32 | None = None
    save: Name | None = None
    k: Literal[1, 2, 4] | None = None
    quality: Annotated[int, msgspec.Meta(ge=10, le=100)] | None = None
    sound: bool | None = None
    objects: bool | None = None


class Action(Message, frozen=True, tag="action"):
    """The code that the player holds from now on, or, in a world with axes, the value of each of
    them; `seq` rises with each message, from 1."""

    seq: Annotated[int, msgspec.Meta(ge=1, le=2**32 - 1)]
    action: U32 = 0
    axes: Annotated[tuple[float, ...], msgspec.Meta(max_length=64)] | None = None


class Ack(Message, frozen=True, tag="ack"):
    """Every frame up to number `frame` has arrived and been used."""

    frame: U32


class Save(Message, frozen=True, tag="save"):
    """Keep the present state under `name` for as long as the game lives; send it, if `download`."""

    name: Name = "quick"
    download: bool = False


class Load(Message, frozen=True, tag="load"):
    """Go back to a saved state, or to an uploaded snapshot when `upload` is given."""

    name: Name = "quick"
    upload: U32 | None = None


class Rewind(Message, frozen=True, tag="rewind"):
    """Go back by at least `ticks`, to the nearest state that is still remembered."""

    ticks: Annotated[int, msgspec.Meta(ge=1, le=2**32 - 1)]


class Fork(Message, frozen=True, tag="fork"):
    """Make a second game of the present state; the answer has the token to take it up."""


class Record(Message, frozen=True, tag="record"):
    """Switch the recording of this game on or off."""

    on: bool


class Upload(Message, frozen=True, tag="upload"):
    """Announce `size` bytes that follow in binary messages; the server answers when it has all."""

    id: U32
    kind: UploadKind
    size: Annotated[int, msgspec.Meta(ge=1, le=MAX_UPLOAD)]


# From the server ---------------------------------------------------------------------------------


class Axis(msgspec.Struct, frozen=True):
    """One axis of a continuous action, and how far it goes."""

    name: str
    low: float
    high: float


class Welcome(Message, frozen=True, tag="hello"):
    """The first message of a connection, and again when the role changes: what this world is."""

    protocol: U32
    agent: str
    world: str
    hash: str  # sha256 of weights and config, hex
    width: U32  # pixels
    height: U32
    rate: float  # ticks per second
    sample_rate: float | None  # Hz
    actions: list[str]  # names of the codes 0..A-1
    bindings: dict[str, int]  # control -> code
    window: U32  # frames that may be on the way without an ack
    game: str = ""  # its id: others watch it at /watch/ID
    role: Role = "driver"
    resume: str | None = None  # takes the game up again within 60 s of a lost connection
    viewers: U32 = 0  # connections that watch
    asking: U32 = 0  # of them, those that ask for the controls
    rewind: float = 0.0  # seconds that can be gone back
    can_record: bool = False
    restored: float | None = None  # seconds: age of the save that the game of a lost server is from
    ai_generated: bool = True
    axes: list[Axis] = []  # of continuous actions, in place of codes


class Started(Message, frozen=True, tag="start"):
    """The answer to `start`; frame number `frame` is the first one that follows it."""

    seed: U63
    clock: Clock
    frame: U32


class Saved(Message, frozen=True, tag="save"):
    """The answer to `save`: the state after frame `frame` is kept."""

    name: str
    frame: U32
    download: U32 | None = None  # the snapshot follows, in chunks with this id
    size: U32 = 0  # bytes of it


class Loaded(Message, frozen=True, tag="load"):
    """The answer to `load`; frame number `frame` is the first one that follows it."""

    frame: U32


class Uploaded(Message, frozen=True, tag="upload"):
    """The announced bytes are all here."""

    id: U32
    size: U32


class Rewound(Message, frozen=True, tag="rewind"):
    """The answer to `rewind`: so many ticks were undone; frame number `frame` comes next."""

    ticks: U32
    frame: U32


class Forked(Message, frozen=True, tag="fork"):
    """The answer to `fork`: say `resume` in a hello within `seconds` to play the second game."""

    resume: str
    seconds: float


class Recording(Message, frozen=True, tag="record"):
    """The answer to `record`; `name` is that of the first file, without its ending."""

    on: bool
    name: str | None = None


class Error(Message, frozen=True, tag="error", omit_defaults=True):
    """Something that the client asked for is not done; the session goes on unless `fatal`."""

    code: str
    message: str
    path: str = ""  # of the wrong field, such as $.frame
    fatal: bool = False
    client: U32 | None = None  # versions of the protocol, of a version_mismatch
    server: U32 | None = None


Request = Hello | Start | Action | Ack | Save | Load | Rewind | Fork | Record | Upload
Reply = Welcome | Started | Saved | Loaded | Rewound | Forked | Recording | Uploaded | Error

_UNREADABLE = (msgspec.MsgspecError, RecursionError, UnicodeError)
_PATH = re.compile(r" - at `(.+)`$")
_encoder = msgspec.json.Encoder()
_requests: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)
_replies: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(Reply)


def encode(message: Request | Reply) -> str:
    """A control message as JSON text."""
    return _encoder.encode(message).decode()


def parse_request(text: str) -> Request:
    """What a client said; ProtocolError on anything else, with the path of the wrong field."""
    return _parse(_requests, text)


def parse_reply(text: str) -> Reply:
    """What a server said; ProtocolError on anything else, with the path of the wrong field."""
    return _parse(_replies, text)


def _parse(decoder: msgspec.json.Decoder[T], text: str) -> T:
    try:
        return decoder.decode(text)
    except _UNREADABLE as error:
        found = _PATH.search(str(error))
        path = found.group(1) if found else "$"
        raise ProtocolError(f"not a message of {SUBPROTOCOL}: {error}", path=path) from error
