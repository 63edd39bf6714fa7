"""Rows of the ablation change what they say, for as long as they run."""

import pytest

from worldsim.benchmarks.ablation import HOMES, ROWS, changed


@pytest.mark.parametrize("row", ROWS)
def test_a_row_changes_its_constants_and_puts_them_back(row: str) -> None:
    _, constants = ROWS[row]

    def now(name: str) -> float:
        return next(getattr(home, name) for home in HOMES if hasattr(home, name))

    before = {name: now(name) for name in constants}
    with changed(constants):
        assert {name: now(name) for name in constants} == constants
        assert all(constants[name] != before[name] for name in constants)
    assert {name: now(name) for name in constants} == before
