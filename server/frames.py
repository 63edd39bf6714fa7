"""The binary half of `worldsim.v1`: frames, and chunks of a download. No I/O.

A frame is a fixed little-endian header, then the picture, the sound and the objects (media.py). A
chunk is a small header, then a piece of what the server announced. The first four bytes tell them
apart.
"""

import struct
from dataclasses import dataclass

from worldsim.errors import ProtocolError

VERSION = 1
AI_GENERATED, DEGRADED, ALARM, RESET = 1, 2, 4, 8  # flags of a frame
JPEG = 1  # the codec of a picture
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
        raise ProtocolError(f"not a frame of version {VERSION}: starts with {data[:5]!r}")
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


CHUNK_MAGIC = b"WSC1"
CHUNK = struct.Struct("<4sII")


@dataclass(frozen=True)
class Chunk:
    """Bytes of download `id` from `offset` on."""

    id: int
    offset: int
    data: bytes


def encode_chunk(chunk: Chunk) -> bytes:
    """Header and data, ready to send."""
    return CHUNK.pack(CHUNK_MAGIC, chunk.id, chunk.offset) + chunk.data


def decode_binary(data: bytes) -> Frame | Chunk:
    """What a binary message of the server holds; ProtocolError if it is neither."""
    if not data.startswith(CHUNK_MAGIC):
        return decode_frame(data)
    if len(data) <= CHUNK.size:
        raise ProtocolError(f"a chunk has more than {CHUNK.size} bytes, got {len(data)}")
    _, number, offset = CHUNK.unpack_from(data)
    return Chunk(number, offset, data[CHUNK.size :])
