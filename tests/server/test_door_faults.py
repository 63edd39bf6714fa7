"""Cases of trouble at the door, before anybody is let in; each has its number in its name."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peer import UPGRADE, Hall, meet
from websockets.asyncio.client import connect
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus

from worldsim.server import app, door
from worldsim.server.flow import Taps
from worldsim.server.handshake import House, Refusal, refusal


async def knock(hall: Hall, data: bytes) -> bytes:
    """What the server answers to raw bytes, up to the end of the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", hall.server.port)
    writer.write(data)
    try:
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def test_f01_a_refusal_is_counted_and_costs_no_model_call() -> None:
    async def test(hall: Hall) -> None:
        with pytest.raises(InvalidStatus):
            await connect(hall.server.url, origin="http://evil.example")  # type: ignore[arg-type]
        head = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        assert b'worldsim_ws_rejects_total{reason="origin"} 1.0' in await knock(hall, head)
        assert b"worldsim_sessions 0.0" in await knock(hall, head)
        assert not hall.world.calls

    meet(test)


@pytest.mark.parametrize(
    ("house", "name", "is_known"),
    [
        (House(host="127.0.0.1", token=None), "localhost", True),
        (House(host="127.0.0.1", token=None), "192.0.2.7", False),
        (House(host="127.0.0.1", token="t"), "evil.example", False),
        (House(host="0.0.0.0", token=None), "evil.example", False),
        (House(host="0.0.0.0", token=None), "192.0.2.7", True),
        (House(host="0.0.0.0", token=None, names=frozenset({"box"})), "box", True),
        (House(host="play.example", token=None), "play.example", True),
        (House(host="0.0.0.0", token="t"), "play.example", True),
    ],
)
def test_f02_only_our_own_names_are_believed(house: House, name: str, is_known: bool) -> None:
    headers = Headers({"Host": f"{name}:8765", "Authorization": "Bearer t"})

    refused = refusal(headers, "/", house)

    assert (refused is None) == is_known
    assert refused is None or refused.reason == "host"


@pytest.mark.parametrize(
    "path", ["/?token=secret", "/?a=1&token=", "/watch/x?token=secret", "/?%74oken=secret"]
)
def test_f03_a_token_in_the_address_is_refused_even_beside_the_right_one(path: str) -> None:
    headers = Headers({"Host": "127.0.0.1", "Authorization": "Bearer secret"})
    house = House(host="127.0.0.1", token="secret")

    assert refusal(headers, "/", house) is None
    refused = refusal(headers, path, house)

    assert refused is not None and (refused.status, refused.reason) == (401, "token")
    assert "secret" not in refused.sentence


@pytest.mark.parametrize("wrong", ["", "secre", "secret2", "Secret", "sécret"])
def test_f03_a_token_that_is_nearly_right_is_wrong(wrong: str) -> None:
    house = House(host="127.0.0.1", token="secret")
    for value in (f"Bearer {wrong}", wrong, f"bearer {wrong}"):
        headers = Headers({"Host": "127.0.0.1", "Authorization": value})
        assert refusal(headers, "/", house) is not None


def test_f03_bytes_that_are_not_ascii_are_a_wrong_token_too() -> None:
    class Old(Headers):
        """As websockets before 17 read a header."""

        def get_all(self, key: str) -> list[str]:
            return {"Host": ["127.0.0.1"], "Authorization": ["Bearer s\udce9cret"]}.get(key, [])

    refused = refusal(Old(), "/", House(host="127.0.0.1", token="sécret"))

    assert refused is not None and refused.status == 401


def test_f05_half_open_connections_are_closed_and_keep_nobody_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(app, "OPEN_TIMEOUT", 0.5)

    async def test(hall: Hall) -> None:
        half = [await asyncio.open_connection("127.0.0.1", hall.server.port) for _ in range(300)]
        for _, writer in half:
            writer.write(UPGRADE[:40])
        peer = await hall.join()
        await peer.started()
        await peer.frame()
        answers = await asyncio.gather(*(reader.read() for reader, _ in half))
        assert all(b" 101 " not in answer for answer in answers)
        for _, writer in half:
            writer.close()

    meet(test)


def test_f06_the_players_inside_keep_their_frames_while_others_are_sent_away() -> None:
    async def test(hall: Hall) -> None:
        inside = [await hall.join() for _ in range(2)]
        for peer in inside:
            await peer.started()
        for _ in range(5):
            with pytest.raises(InvalidStatus) as refused:
                await hall.join()
            assert refused.value.response.status_code == 503
            assert "Retry-After" in refused.value.response.headers
            for peer in inside:
                await peer.frame()
        viewer = await hall.join(f"/watch/{inside[0].welcome.game}")  # type: ignore[union-attr]
        await viewer.frame()  # a viewer takes no place

    meet(test, max_sessions=2)


def test_f06_seats_of_viewers_are_limited_and_a_wrong_game_is_not_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(door, "MAX_VIEWERS", 1)

    async def test(hall: Hall) -> None:
        driver = await hall.join()
        assert driver.welcome is not None
        await hall.join(f"/watch/{driver.welcome.game}")
        for path, status in ((f"/watch/{driver.welcome.game}", 503), ("/watch/nobody", 404)):
            with pytest.raises(InvalidStatus) as refused:
                await hall.join(path)
            assert refused.value.response.status_code == status

    meet(test)


def test_f07_a_storm_of_connections_is_slowed_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "KNOCKS", (1.0, 10))

    async def test(hall: Hall) -> None:
        peer = await hall.join()
        await peer.started()
        statuses = []
        for _ in range(30):
            answer = await knock(hall, UPGRADE[:-2] + b"Origin: http://evil.example\r\n\r\n")
            statuses.append(answer.split()[1])
        assert set(statuses) == {b"403", b"429"}
        assert 5 <= statuses.count(b"403") <= 15
        await peer.frame()

    meet(test)


def test_f07_every_address_has_a_tap_of_its_own_and_they_are_forgotten() -> None:
    taps = Taps(rate=1.0, burst=3)

    assert [taps.allows("a", 0.0) for _ in range(4)] == [True, True, True, False]
    assert taps.allows("b", 0.0)
    assert not taps.allows("a", 0.5)
    assert taps.allows("a", 2.0)
    for number in range(10_000):
        taps.allows(str(number), 3.0)
    assert len(taps._taps) <= 4097


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /" + 9000 * b"x" + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b""),
        (b"GET / HTTP/1.1\r\n" + 200 * b"A: b\r\n" + b"\r\n", b""),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b"200"),  # the page
        (b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", b"400"),
        (b"GET //[ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b""),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b""),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b""),
    ],
)
def test_f09_requests_that_make_no_sense_are_answered_or_closed(
    data: bytes, status: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(hall: Hall) -> None:
        answer = await knock(hall, data)
        assert b" 101 " not in answer
        if status:
            assert answer.split()[1] == status
        await hall.join()

    meet(test)
    assert "Traceback" not in caplog.text


@given(
    st.dictionaries(
        st.sampled_from(["Host", "Origin", "Authorization", "Sec-WebSocket-Protocol"]),
        st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40),
    ),
    st.text(max_size=60),
)
def test_f09_any_headers_get_a_refusal_or_none(headers: dict[str, str], path: str) -> None:
    house = House(host="127.0.0.1", token="secret")

    assert isinstance(refusal(Headers(headers), path, house), Refusal)  # none of them knows it
