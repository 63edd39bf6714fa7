"""Actions out of the side files that lie beside recordings."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

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
        raise DataError("no side files with controls: labelled training needs NAME.jsonl files")
    return labelled


def read_labels(footage: Footage) -> Footage:
    """`footage` with the actions and controls of its side files.

    A video whose side file is damaged, or is of another length, is skipped, and said so. Raises
    DataError if that leaves none, or if two of them name different controls.
    """
    kept: list[int] = []
    actions: list[NDArray[np.int64]] = []
    controls: tuple[str, ...] = ()
    for i, path in enumerate(footage.paths):
        try:
            recording = Recording.open(path)
            taken = _taken(recording, footage.source[i])
        except DataError as error:
            say(f"skipped: {error}")
            continue
        if kept and tuple(recording.header.controls) != controls:
            raise DataError(f"{path}: controls differ from those of {footage.paths[kept[0]]}")
        controls = tuple(recording.header.controls)
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
        controls=controls,
    )


def _taken(recording: Recording, source: NDArray[np.int64]) -> NDArray[np.int64]:
    """The control that led to each frame of `source`: where frames were dropped, the last one."""
    lines, frames = len(recording.controls), int(source[-1]) + 1
    whole = len(source) == frames  # else its last frames may have been dropped, too
    if lines < frames or (whole and lines != frames):
        raise DataError(f"{recording.path}: {frames} frames, but {lines} lines beside it")
    return np.asarray(recording.controls, dtype=np.int64)[source]
