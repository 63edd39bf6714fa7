"""The harness of the fuzzer works, and finds what it is there to find."""

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

import decoders

SEEDS = decoders.seeds()


@pytest.mark.parametrize("number", range(len(decoders.DECODERS)))
def test_every_decoder_has_a_seed_that_it_accepts(number: int) -> None:
    decode, _ = decoders.DECODERS[number]

    assert SEEDS[number][0] == number
    decode(SEEDS[number][1:])


@given(st.sampled_from(SEEDS), st.data())
def test_f10_bytes_near_a_message_are_one_or_an_error(seed: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(1, len(seed) - 1))
    wrong = data.draw(st.binary(max_size=8))

    decoders.decode_one(seed[:at] + wrong + seed[at + len(wrong) :])
    decoders.decode_one(seed[:at] + wrong)


def test_what_is_not_promised_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(data: bytes) -> None:
        raise IndexError

    monkeypatch.setattr(decoders, "DECODERS", ((broken, (ValueError,)),))

    with pytest.raises(IndexError):
        decoders.decode_one(b"\0x")
