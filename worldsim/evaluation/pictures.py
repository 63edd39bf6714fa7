"""What the numbers cannot say: real footage above, the imagined one below, from the same moment on.

`strips.png` shows a few moments at growing distance; `rollout.mp4` shows one of them moving, real
on the left.
"""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from worldsim.evaluation.footage import Window
from worldsim.evaluation.metrics import Frames
from worldsim.evaluation.predictors import Predictor
from worldsim.provenance import PARTLY, video_tags, write_png

TICKS = (1, 4, 8, 16, 32, 64)
GAP = 4  # pixels between pictures
NOTICE = "AI-generated: real frames above or left, imagined ones below or right"


def write_strips(predictor: Predictor, windows: Sequence[Window], path: Path) -> None:
    """Two rows per window: last context frame and real frames at TICKS, below it the imagined."""
    controls = np.stack([w.future_controls(max(TICKS)) for w in windows])
    columns: list[list[Frames]] = [[w.seed_frame] * 2 for w in windows]
    for tick, frames in enumerate(predictor.rollout(windows, controls), start=1):
        if tick in TICKS:
            for i, window in enumerate(windows):
                columns[i] += [window.future(tick)[-1], frames[i]]
    write_rows([row for pictures in columns for row in (pictures[0::2], pictures[1::2])], path)


def write_rows(rows: Sequence[Sequence[Frames]], path: Path) -> None:
    """A sheet of pictures (H, W, 3), in pairs of rows: real ones, imagined ones."""
    sheet = np.concatenate([_padded(_side_by_side(row), i) for i, row in enumerate(rows)])
    write_png(sheet, path, NOTICE, PARTLY)


def write_clip(predictor: Predictor, window: Window, ticks: int, fps: float, path: Path) -> None:
    """An H.264 clip of `ticks` frames, real and imagined side by side."""
    controls = window.future_controls(ticks)[None]
    rollout = enumerate(predictor.rollout([window], controls), start=1)
    pairs = (_side_by_side([window.future(tick)[-1], frames[0]]) for tick, frames in rollout)
    save_clip(pairs, fps, path, NOTICE)


def save_clip(
    frames: Iterable[Frames], fps: float, path: Path, notice: str, source: str | None = PARTLY
) -> None:
    """H.264 of frames (H, W, 3), all of one size; an odd edge is cut off, the codec wants that."""
    import av

    with av.open(str(path), "w") as container:
        container.metadata.update(video_tags(notice, source))
        rate = Fraction(fps).limit_denominator(1000)
        stream = container.add_stream("libx264", rate=rate, options={"crf": "18"})
        stream.pix_fmt = "yuv420p"
        for number, frame in enumerate(frames):
            if number == 0:
                stream.height, stream.width = (side // 2 * 2 for side in frame.shape[:2])
            cut = np.ascontiguousarray(frame[: stream.height, : stream.width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(cut, format="rgb24")))
        container.mux(stream.encode(None))


def _side_by_side(pictures: Sequence[Frames]) -> Frames:
    height = pictures[0].shape[0]
    gap = np.full((height, GAP, 3), 255, dtype=np.uint8)
    parts: list[Frames] = []
    for picture in pictures:
        parts += [gap, picture] if parts else [picture]
    return np.concatenate(parts, axis=1)


def _padded(row: Frames, index: int) -> Frames:
    """A row with a thin line below, a thick one after each pair."""
    gap = np.full((GAP * (1 + 2 * (index % 2)), row.shape[1], 3), 255, dtype=np.uint8)
    return np.concatenate([row, gap])
