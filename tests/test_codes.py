"""Codes of keys whose effect comes and goes are taken to be held."""

import numpy as np

from worldsim.codes import find_holds, hold

EVERY = 14  # ticks


def shots(rng: np.random.Generator, length: int = 2000) -> np.ndarray:
    """Waiting (0) and turning (1) for a while each, and shots (2), two to six in a row."""
    codes = np.repeat(rng.integers(0, 2, length // 10), 10)
    for begin in range(50, length - 150, 200):
        codes[begin : begin + EVERY * int(rng.integers(1, 6)) + 1 : EVERY] = 2
    return codes


def test_what_comes_alone_and_again_at_one_interval_is_held() -> None:
    rng = np.random.default_rng(0)
    assert find_holds([shots(rng) for _ in range(4)], 4) == [0, 0, EVERY, 0]


def test_chance_is_not_held() -> None:
    rng = np.random.default_rng(0)
    rare = np.where(rng.random(20_000) < 0.02, 2, 0)
    flickering = np.resize([0, 1], 2000)

    assert find_holds([rare], 3) == [0, 0, 0]
    assert find_holds([flickering], 3) == [0, 0, 0]
    assert find_holds([np.array([0] * 9 + [2] + [0] * 6 + [2])], 3) == [0, 0, 0]
    assert find_holds([np.zeros(0, np.int64)], 3) == [0, 0, 0]
    assert find_holds([], 2) == [0, 0]


def test_a_held_code_lasts_from_one_time_to_the_next_and_no_longer() -> None:
    codes = np.array([0, 2, 1, 1, 2, 0, 0, 0, 2, 1])

    assert hold(codes, [0, 0, 3]).tolist() == [0, 2, 2, 2, 2, 0, 0, 0, 2, 1]
    assert hold(codes, [0, 0, 4]).tolist() == [0, 2, 2, 2, 2, 2, 2, 2, 2, 1]
    assert hold(codes, []).tolist() == codes.tolist()
    assert hold(codes[:0], [0, 0, 4]).tolist() == []
