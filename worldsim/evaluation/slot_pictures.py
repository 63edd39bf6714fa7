"""Slots over time: real frames, each with the boxes of its slots, one colour per slot."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from worldsim.evaluation.footage import Library
from worldsim.evaluation.metrics import Frames
from worldsim.evaluation.object_rows import Slots
from worldsim.evaluation.predictors import codes_of
from worldsim.provenance import write_png

if TYPE_CHECKING:
    from worldsim.world import World

CLIPS, PICTURES, EVERY = 5, 8, 8
SCALE = 2  # times larger than the frame, or boxes hide what is in them
NOTICE = "Real frames of a game, with the object slots that a world model found in them"


def write_slots(world: "World", library: Library, path: Path) -> None:
    """A row per moment: every EVERY-th frame, with what each slot holds."""
    assert world.objects is not None, "the world has objects"
    finder = Slots(world, world.objects)
    ticks = PICTURES * EVERY
    windows = library.windows(context=16, horizon=ticks, count=CLIPS, seed=9)
    codes = np.append(codes_of(world, library.controls), -1)
    rows = []
    for window in windows:
        frames = np.concatenate([window.frames, window.future(ticks)])
        led = np.concatenate([np.full(window.context, -1), codes[window.future_controls(ticks)]])
        found = finder.find(frames[None], led[None])[0]
        chosen = range(window.context, len(frames), EVERY)
        rows.append(np.concatenate([outlined(frames[t], found[t]) for t in chosen], axis=1))
    if rows:
        write_png(np.concatenate(rows), path, NOTICE, None)


def outlined(frame: Frames, boxes: npt.NDArray[np.float64]) -> Frames:
    """A frame (H, W, 3), enlarged, with the outline of each box (K, 4), NaN for none."""
    from PIL import Image, ImageDraw

    height, width, _ = frame.shape
    size = (width * SCALE, height * SCALE)
    image = Image.fromarray(frame).resize(size, Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(image)
    for slot, (x, y, wide, high) in enumerate(boxes):
        if np.isfinite(x):
            corners = [x - wide / 2, y - high / 2, x + wide / 2, y + high / 2]
            scaled = [c * s for c, s in zip(corners, size * 2, strict=True)]
            draw.rectangle(scaled, outline=f"hsl({slot * 137 % 360}, 100%, 60%)")
    return np.array(image)
