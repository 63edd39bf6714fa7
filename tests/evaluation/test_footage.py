"""Windows look only where a picture is a consequence of the controls."""

from dataclasses import replace

import numpy as np

from worldsim.evaluation.footage import Library


def test_windows_hold_no_reset_and_no_death(library: Library) -> None:
    resets = np.zeros(420, dtype=np.bool_)
    deaths = np.zeros(420, dtype=np.bool_)
    resets[[0, 200]] = True
    deaths[150] = True
    broken = replace(library.footage[0], resets=resets, deaths=deaths)
    few = replace(library, footage=(broken,))

    windows = few.windows(context=32, horizon=16, count=1000, seed=0)

    assert windows
    for window in windows:
        span = range(window.now - 31, window.now + 17)
        assert 150 not in span
        assert 200 not in span or span[0] == 200
    assert len(windows) == len(broken.clean_starts(48))


def test_windows_are_spread_over_the_recordings(library: Library) -> None:
    windows = library.windows(context=32, horizon=16, count=12, seed=0)

    counts = np.bincount([window.footage.index for window in windows])
    assert counts.tolist() == [3, 3, 3, 3]


def test_the_same_seed_chooses_the_same_windows(library: Library) -> None:
    first = library.windows(context=32, horizon=16, count=9, seed=5)
    second = library.windows(context=32, horizon=16, count=9, seed=5)

    assert [w.key for w in first] == [w.key for w in second]


def test_controls_lead_from_the_frame_before(library: Library) -> None:
    window = library.windows(context=32, horizon=16, count=1, seed=0)[0]
    footage = window.footage
    assert footage.controls is not None

    past, future = window.past_controls, window.future_controls(16)

    assert past is not None
    assert len(window.frames) == 32
    assert past.tolist() == footage.controls[window.now - 30 : window.now + 1].tolist()
    assert future[0] == footage.controls[window.now + 1]
    assert np.array_equal(window.future(1)[0], footage.frames[window.now + 1])


def test_long_recordings_are_several_units(library: Library) -> None:
    footage = library.footage[2]

    assert footage.unit_of(0) == footage.unit_of(999)
    assert footage.unit_of(999) != footage.unit_of(1000)
    assert footage.unit_of(0) != library.footage[1].unit_of(0)
