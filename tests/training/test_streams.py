"""Streams: a lane continues where it left off, or says that it jumped."""

import json

import numpy as np
import pytest

from worldsim.training.streams import Streams


def streams(jump: float) -> Streams:
    episodes = [np.arange(100), 1000 + np.arange(50)]
    return Streams([episodes, [-e for e in episodes]], lanes=4, ticks=8, jump=jump, seed=0)


def test_a_lane_that_did_not_jump_begins_with_its_last_frame() -> None:
    source = streams(jump=0.2)
    last = source.next().arrays[0][:, -1]

    for _ in range(50):
        chunk = source.next()
        continues = ~chunk.jumped
        assert (chunk.arrays[0][continues, 0] == last[continues]).all()
        last = chunk.arrays[0][:, -1]


def test_sources_stay_aligned_and_frames_consecutive() -> None:
    source = streams(jump=0.2)

    for _ in range(20):
        first, second = source.next().arrays
        assert (first == -second).all()
        assert (np.diff(first, axis=1) == 1).all()


def test_every_lane_jumps_at_first_and_when_its_episode_ends() -> None:
    source = streams(jump=0.0)

    chunks = [source.next() for _ in range(30)]

    assert chunks[0].jumped.all()
    assert sum(c.jumped.sum() for c in chunks[1:]) >= 4


def test_footage_that_is_too_short_is_refused() -> None:
    with pytest.raises(ValueError, match="no episode is longer than 9 frames"):
        Streams([[np.arange(9)]], lanes=1, ticks=8, jump=0.0, seed=0)


def test_a_position_brings_back_what_would_have_come_next() -> None:
    source = streams(jump=0.2)
    for _ in range(7):
        source.next()
    position = json.loads(json.dumps(source.position()))
    wanted = [source.next() for _ in range(20)]

    again = streams(jump=0.2)
    assert again.seek(position)

    for chunk in wanted:
        mine = again.next()
        assert (mine.jumped == chunk.jumped).all()
        assert all((a == b).all() for a, b in zip(mine.arrays, chunk.arrays, strict=True))


def test_a_position_in_other_footage_is_not_one() -> None:
    position = streams(jump=0.2).position()
    other = Streams([[np.arange(101)]], lanes=4, ticks=8, jump=0.2, seed=0)

    assert not other.seek(position)
    assert other.next().jumped.all()
