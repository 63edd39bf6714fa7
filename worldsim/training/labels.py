"""Actions out of the side files that lie beside recordings."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldsim.axes import Axis
from worldsim.data.recording import Recording, read_header, side_file
from worldsim.data.scan import ScanResult
from worldsim.errors import DataError
from worldsim.training.footage import Footage
from worldsim.training.say import say


def only_labelled(found: Sequence[ScanResult]) -> list[ScanResult]:
    """The videos that have a side file, at the rate that it states; says which ones have none.

    Raises DataError if none has.
    """
    labelled = []
    for result in found:
        try:
            header = read_header(side_file(Path(result.path)))
            labelled.append(replace(result, fps=header.fps))
        except DataError as error:
            say(f"skipped: {error}")
    if not labelled:
        raise DataError(
            "no side files with controls or axes: labelled training needs NAME.jsonl files"
        )
    return labelled


def read_labels(footage: Footage) -> Footage:
    """`footage` with the actions of its side files, and the names of the controls or the axes.

    A video whose side file is damaged, or is of another length, is skipped, and said so. Raises
    DataError if that leaves none, or if two of them name different controls.
    """
    kept: list[int] = []
    actions: list[Any] = []
    names: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    for i, path in enumerate(footage.paths):
        try:
            recording = Recording.open(path)
            taken = _taken(recording, footage.source[i])
        except DataError as error:
            say(f"skipped: {error}")
            continue
        mine = (recording.header.controls, recording.header.axes)
        if kept and mine != names:
            raise DataError(f"{path}: controls differ from those of {footage.paths[kept[0]]}")
        names = mine
        kept.append(i)
        actions.append(taken)
    if not kept:
        raise DataError("no side file fits its video")
    return replace(
        footage,
        paths=[footage.paths[i] for i in kept],
        names=[footage.names[i] for i in kept],
        frames=[footage.frames[i] for i in kept],
        source=[footage.source[i] for i in kept],
        actions=actions,
        controls=names[0],
        axes=_measured(names[1], actions) if names[1] else (),
    )


def _measured(names: Sequence[str], actions: Sequence[NDArray[np.float32]]) -> tuple[Axis, ...]:
    """The axes, as far as the footage goes."""
    rows = np.concatenate(actions)
    rows = rows[np.isfinite(rows).all(axis=1)]
    if not len(rows):
        raise DataError("no frame of the footage has a value of its axes beside it")
    spans = zip(names, rows.min(axis=0).tolist(), rows.max(axis=0).tolist(), strict=True)
    return tuple(Axis(name=name, low=low, high=high) for name, low, high in spans)


def _taken(
    recording: Recording, source: NDArray[np.int64]
) -> NDArray[np.int64] | NDArray[np.float32]:
    """What led to each frame of `source`: where frames were dropped, the last control, and of axes
    the mean, since turns add up."""
    lines, frames = len(recording.controls), int(source[-1]) + 1
    whole = len(source) == frames  # else its last frames may have been dropped, too
    if lines < frames or (whole and lines != frames):
        raise DataError(f"{recording.path}: {frames} frames, but {lines} lines beside it")
    if recording.header.controls and recording.header.axes:
        raise DataError(f"{recording.path}: its side file has controls and axes; keep one of them")
    if not recording.header.axes:
        return np.asarray(recording.controls, dtype=np.int64)[source]
    rows = recording.axes
    taken = [rows[source[0]], *map(_mean, (rows[a + 1 : b + 1] for a, b in pairwise(source)))]
    return np.array(taken, dtype=np.float32)


def _mean(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """NaN of none: a frame that is shown twice was led to by nothing known."""
    if not len(rows):
        return np.full(rows.shape[1:], np.nan)
    mean: NDArray[np.float64] = rows.mean(axis=0)
    return mean
