"""What fits into a period, from invented measurements."""

import numpy as np
import pytest
from fake_world import FakeState
from hypothesis import given
from hypothesis import strategies as st

from worldsim.costs import STEPS, Cost, Costs, size_of_batch
from worldsim.history import History
from worldsim.slots import Slot, gather


def costs() -> Costs:
    """A tick of n players with 2 steps takes 6 n + 4 ms, of which n in each step."""
    return Costs({n: Cost(0.006 * n + 0.004, 0.001 * n) for n in (1, 2, 4, 8)}, flow_steps=2)


def test_capacity_is_the_largest_batch_within_four_fifths_of_the_period() -> None:
    assert costs().capacity(0.040) == 4  # 28 of 32 ms
    assert costs().capacity(0.065) == 8
    assert costs().capacity(0.001) == 1  # one can always try


def test_fewer_steps_cost_less_and_more_players_more() -> None:
    assert costs().tick(2, 1) == pytest.approx(0.014)
    assert costs().tick(2, 2) == pytest.approx(0.016)
    assert costs().tick(3, 4) == pytest.approx(0.036)  # in four rows


def test_with_time_enough_everybody_gets_what_they_wish() -> None:
    assert costs().plan([4, 2, 1], left=1.0) == {4: 4, 2: 2, 1: 1}


def test_the_dearest_wish_gives_way_first() -> None:
    # one alone each: 4 steps 12 ms, 2 steps 10 ms; together in two rows with 2 steps: 16 ms
    assert costs().plan([4, 2], left=0.020) == {4: 2, 2: 2}
    assert costs().plan([4, 2], left=0.015) == {4: 1, 2: 1}


def test_steps_that_save_next_to_nothing_are_kept() -> None:
    steady = Costs({1: Cost(0.030, 0.001)}, flow_steps=2)

    assert steady.plan([2], left=0.0) == {2: 2}
    assert steady.plan([4], left=0.0) == {4: 2}


def test_without_any_time_left_it_is_one_step_for_all() -> None:
    assert costs().plan([4, 2], left=-1.0) == {4: 1, 2: 1}


def test_a_slower_machine_is_noticed_and_so_is_a_faster_one() -> None:
    known = costs()
    for _ in range(60):
        known.note(known.tick(1, 2), 0.020)  # instead of 10 ms
    assert known.slowdown == pytest.approx(2.0, rel=0.1)
    assert known.plan([2, 2], left=0.030) == {2: 1}
    for _ in range(60):
        known.note(known.tick(1, 1), 0.009)
    assert known.slowdown == pytest.approx(1.0, rel=0.1)
    assert known.plan([2, 2], left=0.030) == {2: 2}


def test_one_stall_is_no_trend() -> None:
    known = costs()

    known.note(known.tick(1, 2), 5.0)

    assert known.slowdown <= 1.1


@given(st.lists(st.sampled_from(STEPS), min_size=1, max_size=8), st.floats(-1, 1))
def test_nobody_ever_gets_more_steps_than_wished(wishes: list[int], left: float) -> None:
    granted = costs().plan(wishes, left)

    assert set(granted) == set(wishes)
    assert all(granted[wish] <= wish and granted[wish] in STEPS for wish in wishes)


@pytest.mark.parametrize(("players", "rows"), [(1, 1), (2, 2), (3, 4), (4, 4), (5, 8)])
def test_batches_have_few_sizes(players: int, rows: int) -> None:
    assert size_of_batch(players) == rows


class Stack:
    """The part of a state that slots look at."""

    def __init__(self, *rows: str) -> None:
        self.rows = rows
        self.batch = len(rows)

    def select(self, row: int) -> "Stack":
        return Stack(self.rows[row])

    @staticmethod
    def stack(states: "list[Stack]") -> "Stack":
        return Stack(*(row for state in states for row in state.rows))


def test_a_stack_is_used_again_while_the_same_players_sit_in_the_same_rows() -> None:
    stack = Stack("a", "b", "c", "c")
    slots = [Slot(stack, row) for row in range(3)]  # type: ignore[arg-type]

    assert gather(slots, 4) is stack
    assert gather(slots[:2], 2).rows == ("a", "b")  # type: ignore[attr-defined]
    assert gather([slots[0], slots[2]], 2).rows == ("a", "c")  # type: ignore[attr-defined]
    joined = gather([*slots[:2], Slot(Stack("x"), 0)], 4)  # type: ignore[arg-type]
    assert joined.rows == ("a", "b", "x", "x")  # type: ignore[attr-defined]


def moment(tick: int, *, row: int = 0) -> Slot:
    """A slot whose state shows `tick`."""
    ticks = np.arange(tick - row, tick - row + 3)
    return Slot(FakeState(ticks, 0 * ticks, 0 * ticks), row)  # type: ignore[arg-type]


def tick_at(history: History, tick: int) -> tuple[int, int]:
    """The tick that is gone back to, and the one that its state shows."""
    found = history.at(tick)
    assert found is not None
    return found[0], int(found[1].tick[0])


def test_the_past_is_a_ring_of_a_stated_size() -> None:
    history = History(rate=40.0, state_bytes=8 * 1024 * 1024)

    assert (history.every, history.size, history.seconds) == (10, 8, 2.0)
    for tick in range(0, 200, 10):
        assert history.is_due(tick) and not history.is_due(tick + 1)
        history.keep(tick, moment(tick, row=tick % 3))
    assert history.oldest() == 120
    assert history.at(119) is None
    assert tick_at(history, 139) == (130, 130)


def test_a_rewound_past_forgets_the_future_that_did_not_happen() -> None:
    history = History(rate=40.0, state_bytes=1)
    for tick in (0, 10, 20):
        history.keep(tick, moment(tick))

    history.keep(10, moment(77))

    assert tick_at(history, 99) == (10, 77)


def test_a_state_that_was_gone_back_to_is_a_value_of_its_own() -> None:
    history = History(rate=40.0, state_bytes=32 * 1024 * 1024)
    history.keep(0, moment(0))
    found = history.at(0)

    for tick in (10, 20, 30):  # the ring of two takes back the memory of tick 0
        history.keep(tick, moment(tick))
    history.clear()
    history.keep(0, moment(99))

    assert found is not None and int(found[1].tick[0]) == 0
