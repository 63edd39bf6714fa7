"""Pairs of spectrograms: the sound of real footage above, the imagined one below, same controls.

Time goes right, mel bands go up, black is silence; 0.01 s and a band are a few pixels. A red mark
below a column is a tick in which `attack` was executed.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from worldsim.evaluation.metrics import Frames
from worldsim.evaluation.shots import Bools, Floats, Listener
from worldsim.provenance import PARTLY, write_png

if TYPE_CHECKING:
    from worldsim.evaluation.block_audio import Heard

PAIRS = 4
SCALE = (3, 3)  # pixels per band and per column
LOUDEST = 1.6  # root magnitude that is white
NOTICE = "real sound above, AI-generated sound below"


def write(heard: Sequence["Heard"], fps: float, path: Path) -> None:
    """A PNG of the first few rollouts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for h in heard[:PAIRS]:
        listener = Listener(h.real.shape[1], fps)
        for sound in (h.real, h.imagined):
            rows += [draw(listener.mel(sound), h.attack, listener.columns)]
        rows += [np.full((12, rows[0].shape[1], 3), 255, np.uint8)]
    write_png(np.concatenate(rows), path, NOTICE, PARTLY)


def draw(mel: Floats, attack: Bools, columns: int) -> Frames:
    """(T * columns, M) -> uint8 (H, W, 3)."""
    grey = np.clip(mel.T[::-1] / LOUDEST, 0, 1) * 255
    picture = np.repeat(np.repeat(grey, SCALE[0], axis=0), SCALE[1], axis=1)
    picture = np.repeat(picture[..., None], 3, axis=2).astype(np.uint8)
    marks = np.full((6, picture.shape[1], 3), 40, np.uint8)
    marks[2:, np.repeat(np.repeat(attack, columns), SCALE[1])] = (220, 40, 40)
    drawn: Frames = np.concatenate([picture, marks])
    return drawn
