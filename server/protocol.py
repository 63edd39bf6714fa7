"""The wire format `worldsim.v1`: pure functions between values and bytes, no I/O.

Control is JSON text, one object with a `type`. A frame is binary: a fixed little-endian header,
then the picture, the sound and the objects (media.py). docs/protocol.md says the same in prose,
with byte offsets; tests/server/test_protocol.py holds the two together.

Whatever bytes come in, `parse_request`, `parse_reply` and `decode_frame` return a message or raise
ProtocolError, nothing else.
"""

import struct
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

from worldsim.errors import ProtocolError

VERSION = 1
SUBPROTOCOL = "worldsim.v1"
TOKEN_PREFIX = "worldsim.token."  # a browser cannot set headers: the token as a sub-protocol
MAX_MESSAGE = 16 * 1024  # bytes of one message from a client, chunks of an upload included
MAX_UPLOAD = 16 * 1024 * 1024  # bytes of one announced upload

AI_GENERATED, DEGRADED, ALARM, RESET = 1, 2, 4, 8  # flags of a frame
JPEG = 1  # the codec of a picture

U32 = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
U63 = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Clock = Literal["open", "step"]
UploadKind = Literal["picture", "snapshot"]


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every control message; `type` is the tag."""


# From the client ---------------------------------------------------------------------------------


class Hello(Message, frozen=True, tag="hello"):
    """Optional: who is speaking, and in which version of the protocol."""

    protocol: U32
    agent: Annotated[str, msgspec.Meta(max_length=64)] = ""


class Start(Message, frozen=True, tag="start"):
    """Begin anew, or with `keep` only change the clock.

    `clock`: "open" ticks at the announced rate whatever the client does; "step" makes one tick per
    action. `upload` names a picture that was uploaded: the world starts from it.
    """

    seed: U63 = 0
    clock: Clock = "open"
    keep: bool = False
    upload: U32 | None = None


class Action(Message, frozen=True, tag="action"):
    """The code that the player holds from now on; `seq` rises with each message, from 1."""

    seq: Annotated[int, msgspec.Meta(ge=1, le=2**32 - 1)]
    action: U32


class Ack(Message, frozen=True, tag="ack"):
    """Every frame up to number `frame` has arrived and been used."""

    frame: U32


class Save(Message, frozen=True, tag="save"):
    """Keep the present state under `name` for as long as the session lives."""

    name: Name = "quick"


class Load(Message, frozen=True, tag="load"):
    """Go back to a saved state, or to an uploaded snapshot when `upload` is given."""

    name: Name = "quick"
    upload: U32 | None = None


class Rewind(Message, frozen=True, tag="rewind"):
    """Go back by `ticks`."""

    ticks: U32


class Fork(Message, frozen=True, tag="fork"):
    """Continue the present state in a second session."""


class Record(Message, frozen=True, tag="record"):
    """Switch the recording of this session on or off."""

    on: bool


class Upload(Message, frozen=True, tag="upload"):
    """Announce `size` bytes that follow in binary messages; the server answers when it has all."""

    id: U32
    kind: UploadKind
    size: Annotated[int, msgspec.Meta(ge=1, le=MAX_UPLOAD)]


# From the server ---------------------------------------------------------------------------------


class Welcome(Message, frozen=True, tag="hello"):
    """The first message of a connection: what this world is."""

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


class Started(Message, frozen=True, tag="start"):
    """The answer to `start`; frame number `frame` is the first one that follows it."""

    seed: U63
    clock: Clock
    frame: U32


class Saved(Message, frozen=True, tag="save"):
    """The answer to `save`: the state after frame `frame` is kept."""

    name: str
    frame: U32


class Loaded(Message, frozen=True, tag="load"):
    """The answer to `load`; frame number `frame` is the first one that follows it."""

    frame: U32


class Uploaded(Message, frozen=True, tag="upload"):
    """The announced bytes are all here."""

    id: U32
    size: U32


class Error(Message, frozen=True, tag="error"):
    """Something that the client asked for is not done; the session goes on unless `fatal`."""

    code: str
    message: str
    fatal: bool = False


Request = Hello | Start | Action | Ack | Save | Load | Rewind | Fork | Record | Upload
Reply = Welcome | Started | Saved | Loaded | Uploaded | Error

_UNREADABLE = (msgspec.MsgspecError, RecursionError, UnicodeError)
_encoder = msgspec.json.Encoder()
_requests: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)
_replies: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(Reply)


def encode(message: Request | Reply) -> str:
    """A control message as JSON text."""
    return _encoder.encode(message).decode()


def parse_request(text: str) -> Request:
    """What a client said; ProtocolError on anything else, with the path of the wrong field."""
    try:
        return _requests.decode(text)
    except _UNREADABLE as error:
        raise ProtocolError(f"not a message of {SUBPROTOCOL}: {error}") from error


def parse_reply(text: str) -> Reply:
    """What a server said; ProtocolError on anything else, with the path of the wrong field."""
    try:
        return _replies.decode(text)
    except _UNREADABLE as error:
        raise ProtocolError(f"not a message of {SUBPROTOCOL}: {error}") from error


# Frames ------------------------------------------------------------------------------------------

MAGIC = b"WSF1"
HEADER = struct.Struct("<4sBBHIIIHHQ6f3I2H")
COUNTS = ("number", "action_seq", "missed", "width", "height", "due_us")
STAGES = ("wait_ms", "predict_ms", "head_ms", "decode_ms", "encode_ms", "trunk_ms")


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One frame on the wire: header fields, then the payload as bytes.

    `number` counts up by at least 1 within a connection; a gap is a frame that was not sent because
    the client was behind. `action_seq` is the newest action that the frame reflects, 0 for none.
    `due_us` is when its tick was due, on the server's monotonic clock. Stage times are in ms:
    `wait_ms` from due to the start of the work, `predict_ms` the whole prediction (with `head_ms`
    and `decode_ms` inside), `encode_ms`, and `trunk_ms` of the tick before.
    `missed` counts the ticks dropped since the last `start`.
    """

    number: int
    action_seq: int = 0
    flags: int = AI_GENERATED
    missed: int = 0
    width: int  # pixels
    height: int
    due_us: int = 0
    wait_ms: float = 0.0
    predict_ms: float = 0.0
    head_ms: float = 0.0
    decode_ms: float = 0.0
    encode_ms: float = 0.0
    trunk_ms: float = 0.0
    codec: int = JPEG
    picture: bytes = b""
    sound: bytes = b""  # PCM, int16 little-endian, mono
    objects: bytes = b""  # float32 little-endian, num_slots x slot_size
    num_slots: int = 0
    slot_size: int = 0


def encode_frame(frame: Frame) -> bytes:
    """Header and payload, ready to send."""
    lengths = (len(frame.picture), len(frame.sound), len(frame.objects))
    header = HEADER.pack(
        *(MAGIC, VERSION, frame.codec, frame.flags),
        *(getattr(frame, count) for count in COUNTS),
        *(getattr(frame, stage) for stage in STAGES),
        *lengths,
        *(frame.num_slots, frame.slot_size),
    )
    return b"".join((header, frame.picture, frame.sound, frame.objects))


def decode_frame(data: bytes) -> Frame:
    """The frame in `data`; ProtocolError if it is not exactly one."""
    if len(data) < HEADER.size:
        raise ProtocolError(f"a frame has at least {HEADER.size} bytes, got {len(data)}")
    magic, version, codec, flags, *numbers = HEADER.unpack_from(data)
    stages, lengths, (num_slots, slot_size) = numbers[6:12], numbers[12:15], numbers[15:]
    if magic != MAGIC or version != VERSION:
        raise ProtocolError(f"not a frame of {SUBPROTOCOL}: starts with {data[:5]!r}")
    if codec != JPEG:
        raise ProtocolError(f"picture codec must be {JPEG}, got {codec}")
    if HEADER.size + sum(lengths) != len(data):
        raise ProtocolError(f"lengths {lengths} do not add up to the message, {len(data)} bytes")
    if lengths[1] % 2 or lengths[2] != 4 * num_slots * slot_size:
        raise ProtocolError(f"sound and objects of {lengths[1:]} bytes do not fit their types")
    sound_at = HEADER.size + lengths[0]
    objects_at = sound_at + lengths[1]
    return Frame(
        **dict(zip(COUNTS, numbers[:6], strict=True)),
        flags=flags,
        **dict(zip(STAGES, stages, strict=True)),
        codec=codec,
        picture=data[HEADER.size : sound_at],
        sound=data[sound_at:objects_at],
        objects=data[objects_at:],
        num_slots=num_slots,
        slot_size=slot_size,
    )
