"""Time is an open loop, the window never grows, the newest action wins."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worldsim.server.flow import Mailbox, Pace, Window
from worldsim.ticker import Ticker


def test_ticks_on_time_are_due_at_multiples_of_the_period() -> None:
    ticker = Ticker(0.5, now=10.0)

    for expected in (10.0, 10.5, 11.0):
        assert ticker.due == pytest.approx(expected)
        assert ticker.finish(expected + 0.4) == 0


def test_a_late_tick_still_happens_and_the_next_keeps_its_due_time() -> None:
    ticker = Ticker(0.5, now=10.0)

    dropped = ticker.finish(10.7)

    assert (dropped, ticker.due) == (0, pytest.approx(10.5))


def test_a_stall_drops_the_ticks_inside_it_and_queues_none() -> None:
    ticker = Ticker(0.5, now=10.0)

    dropped = ticker.finish(12.1)  # 10.5, 11.0 and 11.5 are over; 12.0 can still begin

    assert (dropped, ticker.missed, ticker.due) == (3, 3, pytest.approx(12.0))


@given(st.lists(st.floats(0.001, 3.0), max_size=30))
def test_every_period_is_either_ticked_or_missed(durations: list[float]) -> None:
    ticker, now, ticks = Ticker(0.25, now=100.0), 100.0, 0

    for duration in durations:
        now = max(now, ticker.due) + duration
        ticker.finish(now)
        ticks += 1

    assert ticker.due == pytest.approx(100.0 + 0.25 * (ticks + ticker.missed))
    assert ticker.due > now - 0.25


@pytest.mark.parametrize("period", [0.0, -1.0])
def test_a_period_is_above_zero(period: float) -> None:
    with pytest.raises(ValueError, match="period must be above 0"):
        Ticker(period, now=0.0)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20)), max_size=60))
def test_f13_no_sequence_of_acks_opens_the_window_beyond_its_size(
    events: list[tuple[bool, int]],
) -> None:
    window, number, acked = Window(3), 0, -1

    for is_ack, value in events:
        if is_ack:
            if window.ack(value):
                acked = max(acked, value)
        elif not window.is_full():
            window.send(number, now=0.0)
            number += 1
        assert number - 1 - acked <= 3
        assert window.is_full() == (number - 1 - acked == 3)


def test_the_window_knows_how_long_the_oldest_frame_has_waited() -> None:
    window = Window(2)
    window.send(0, now=5.0)
    window.send(1, now=6.0)

    assert window.age(8.0) == 3.0
    window.ack(0)
    assert window.age(8.0) == 2.0
    window.ack(1)
    assert window.age(8.0) == 0.0


def test_f13_the_newest_action_wins_and_an_older_one_is_ignored() -> None:
    mailbox = Mailbox(action=0)

    assert mailbox.put(5, 2, 1.5) and not mailbox.put(4, 1) and not mailbox.put(5, 1)
    assert mailbox.read() == mailbox.read() == (5, 2, 1.5)


def test_a_pace_counts_within_its_span_only() -> None:
    pace = Pace(limit=2, span=1.0)

    assert [pace.excess(now) for now in (0.0, 0.1, 0.25, 1.1)] == [0.0, 0.0, 0.75, 0.0]
