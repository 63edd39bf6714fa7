"""Every message survives the wire; whatever else comes in is a ProtocolError."""

import io
import re
import struct
from dataclasses import fields
from pathlib import Path
from typing import get_args

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from worldsim.errors import ProtocolError
from worldsim.server import media
from worldsim.server import protocol as wire

REQUESTS = [
    wire.Hello(protocol=1, agent="test"),
    wire.Hello(protocol=1, resume="abc", role="viewer"),
    wire.Start(seed=7, clock="step", keep=True, upload=3),
    wire.Start(save="here", k=4, quality=60, sound=False, objects=False),
    wire.Action(seq=9, action=2),
    wire.Action(seq=10, axes=(3.5, -0.25)),
    wire.Ack(frame=12),
    wire.Save(name="here", download=True),
    wire.Load(name="here", upload=1),
    wire.Rewind(ticks=35),
    wire.Fork(),
    wire.Record(on=True),
    wire.Upload(id=1, kind="picture", size=100),
]
REPLIES = [
    wire.Welcome(
        protocol=1,
        agent="worldsim",
        world="doom-hall",
        hash="ab" * 32,
        width=128,
        height=96,
        rate=35.0,
        sample_rate=None,
        actions=["noop"],
        bindings={"noop": 0},
        window=3,
        game="id",
        role="viewer",
        resume="token",
        viewers=2,
        asking=1,
        rewind=7.0,
        restored=4.5,
        axes=[wire.Axis("turn", -8.0, 8.0)],
    ),
    wire.Started(seed=7, clock="open", frame=0),
    wire.Saved(name="here", frame=4, download=2, size=99),
    wire.Rewound(ticks=8, frame=6),
    wire.Forked(resume="token", seconds=60.0),
    wire.Recording(on=True, name="doom-hall-1"),
    wire.Loaded(frame=5),
    wire.Uploaded(id=1, size=100),
    wire.Error(code="bad_action", message="action must be < 8, got 9", path="$.action", fatal=True),
    wire.Error(code="version_mismatch", message="", client=2, server=1),
]

frames = st.builds(
    wire.Frame,
    number=st.integers(0, 2**32 - 1),
    action_seq=st.integers(0, 2**32 - 1),
    flags=st.integers(0, 2**16 - 1),
    missed=st.integers(0, 2**32 - 1),
    width=st.integers(0, 2**16 - 1),
    height=st.integers(0, 2**16 - 1),
    due_us=st.integers(0, 2**64 - 1),
    trunk_ms=st.floats(width=32, allow_nan=False),
    picture=st.binary(max_size=50),
    sound=st.binary(max_size=20).map(lambda data: data[: len(data) // 2 * 2]),
)


@pytest.mark.parametrize("message", REQUESTS, ids=lambda message: type(message).__name__)
def test_a_request_survives_the_wire(message: wire.Request) -> None:
    assert wire.parse_request(wire.encode(message)) == message


@pytest.mark.parametrize("message", REPLIES, ids=lambda message: type(message).__name__)
def test_a_reply_survives_the_wire(message: wire.Reply) -> None:
    assert wire.parse_reply(wire.encode(message)) == message


def test_the_lists_above_hold_every_message() -> None:
    assert {type(message) for message in REQUESTS} == set(get_args(wire.Request))
    assert {type(message) for message in REPLIES} == set(get_args(wire.Reply))


@given(frames)
def test_a_frame_survives_the_wire(frame: wire.Frame) -> None:
    assert wire.decode_frame(wire.encode_frame(frame)) == frame


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.binary(min_size=1, max_size=50))
def test_a_chunk_survives_the_wire(number: int, offset: int, data: bytes) -> None:
    chunk = wire.Chunk(number, offset, data)

    assert wire.decode_binary(wire.encode_chunk(chunk)) == chunk


starts = st.sampled_from([b"", b"WSF1\x01\x01", b"WSC1"])


@given(starts, st.binary(max_size=300))
def test_random_bytes_are_a_frame_or_a_chunk_or_a_protocol_error(start: bytes, rest: bytes) -> None:
    try:
        frame = wire.decode_binary(start + rest)
    except ProtocolError:
        return
    if isinstance(frame, wire.Chunk):
        assert len(frame.data) == len(rest) - 8 > 0
        return
    assert isinstance(frame, wire.Frame)
    with pytest.raises(ProtocolError):
        media.decode_picture(frame)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=8,
)
keys = st.sampled_from(["type", "seq", "action", "frame", "seed", "clock", "name", "upload"])
tags = st.sampled_from(["hello", "start", "action", "ack", "save", "load", "rewind", "upload"])
almost = st.dictionaries(keys, json_values | tags).map(lambda value: msgspec.json.encode(value))


@given(st.text(max_size=100) | almost.map(lambda data: data.decode()))
def test_f10_random_text_is_a_message_or_a_protocol_error(text: str) -> None:
    for parse in (wire.parse_request, wire.parse_reply):
        try:
            message = parse(text)
        except ProtocolError:
            continue
        assert isinstance(message, msgspec.Struct)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "{}",
        '{"type": "dance"}',
        '{"type": "ack"}',
        '{"type": "ack", "frame": -1}',
        '{"type": "ack", "frame": 1e400}',
        '{"type": "ack", "frame": 1, "extra": 2}',
        '{"type": "ack", "frame": true}',
        '{"type": "action", "seq": 0, "action": 1}',
        '{"type": "start", "clock": "fast"}',
        '{"type": "upload", "id": 1, "kind": "picture", "size": 17000000}',
        '{"type": "start", "k": 3}',
        '{"type": "start", "quality": 101}',
        '{"type": "rewind", "ticks": 0}',
        '{"type": "hello", "protocol": 1, "role": "judge"}',
        '{"type": "save", "name": "' + 65 * "x" + '"}',
        '{"x": ' + 16_000 * "[",
        '{"type": "ack", "frame": ' + 100_000 * "[",
        "\ud800",
    ],
)
def test_f10_what_is_not_a_request_is_refused(text: str) -> None:
    with pytest.raises(ProtocolError, match=r"worldsim\.v1"):
        wire.parse_request(text)


def test_the_documented_header_is_the_one_in_use() -> None:
    """docs/protocol.md lists offset, size and name of every field."""
    text = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
    rows = re.findall(r"^\| (\d+) \| (\d+) \| (\w+) \| `(\w+)` \|", text, re.MULTILINE)

    letters = {"bytes": "4s", "u8": "B", "u16": "H", "u32": "I", "u64": "Q", "f32": "f"}
    documented = struct.Struct("<" + "".join(letters[kind] for _, _, kind, _ in rows))
    offset = 0
    for at, size, _, _ in rows:
        assert int(at) == offset
        offset += int(size)
    assert offset == documented.size == wire.HEADER.size
    frame = wire.Frame(number=3, width=4, height=5, picture=b"abc", missed=9, trunk_ms=1.5)
    unpacked = documented.unpack_from(wire.encode_frame(frame))
    values = dict(zip([name for *_, name in rows], unpacked, strict=True))
    known = {field.name for field in fields(wire.Frame)} - {"picture", "sound", "objects"}
    assert known == set(values) - {"magic", "version", "picture_size", "sound_size", "objects_size"}
    assert all(values[name] == getattr(frame, name) for name in known)
    assert (values["picture_size"], values["magic"]) == (3, b"WSF1")


def test_a_picture_comes_back_as_it_was() -> None:
    picture = np.full((48, 64, 3), (200, 40, 90), np.uint8)

    data = media.encode_picture(picture)

    frame = wire.Frame(number=0, width=64, height=48, picture=data)
    assert np.abs(media.decode_picture(frame).astype(int) - picture).max() <= 3
    lying = wire.Frame(number=0, width=128, height=48, picture=data)
    with pytest.raises(ProtocolError, match="64x48, not 128x48"):
        media.decode_picture(lying)


def test_sound_comes_back_as_it_was_and_is_clipped() -> None:
    chunk = np.array([0.0, 0.5, -1.0, 3.0], np.float32)

    frame = wire.Frame(number=0, width=1, height=1, sound=media.encode_sound(chunk))

    np.testing.assert_allclose(media.decode_sound(frame), [0.0, 0.5, -1.0, 1.0], atol=1e-4)


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n" + 50 * b"\0"])
def test_what_is_not_a_picture_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a readable picture"):
        media.fit_picture(data, (48, 64))


def test_a_picture_with_too_many_pixels_is_refused_before_it_is_unpacked() -> None:
    file = io.BytesIO()
    Image.new("1", (5000, 5000)).save(file, "PNG")
    assert len(file.getvalue()) < 10_000  # a bomb: small to send, 75 MB in memory

    with pytest.raises(ValueError, match="5000x5000 pixels are too many"):
        media.fit_picture(file.getvalue(), (48, 64))


@pytest.mark.parametrize(
    ("offset", "value", "match"),
    [
        (5, b"\x02", "codec must be 1, got 2"),
        (4, b"\x02", "not a frame of version 1"),
        (56, b"\xff", "do not add up"),
        (56, b"\x01\x00\x00\x00\x01", "do not fit their types"),
    ],
)
def test_a_frame_that_contradicts_itself_is_refused(offset: int, value: bytes, match: str) -> None:
    frame = wire.Frame(number=1, width=1, height=1, picture=b"ab")
    data = bytearray(wire.encode_frame(frame))
    data[offset : offset + len(value)] = value

    with pytest.raises(ProtocolError, match=match):
        wire.decode_binary(bytes(data))


def test_a_broken_picture_is_a_protocol_error() -> None:
    data = media.encode_picture(np.zeros((48, 64, 3), np.uint8))

    with pytest.raises(ProtocolError, match="broken picture"):
        media.decode_picture(wire.Frame(number=0, width=64, height=48, picture=data[:20]))
