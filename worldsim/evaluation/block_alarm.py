"""Block `alarm` of `worldsim eval`: does the world notice a frame that does not follow?

Pairs of held-out real frames, as they are and with the second one tampered with: a cut to another
moment, a patch of noise, shuffled blocks, an object that is gone (its box filled in; only boxes of
the side file, in full view, and only if that changes the picture). Two detectors on the same pairs:
`detector`, which rings `out.alarm`, and `bound`, the largest change of a feature of phi-hat, whose
limit epsilon follows from the cosine that real footage keeps. AUROC per kind, and false alarms per
1,000 real frames at the limits that the world ships with; deaths and flashes count as real, the
frame after a reset does not, being a cut.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from worldsim.artifacts import FILLS, KINDS, Box, erase
from worldsim.evaluation.footage import Footage, Library
from worldsim.evaluation.intervals import Measure, Missing, measure
from worldsim.evaluation.metrics import Frames
from worldsim.tokenizer import to_frames, to_pixels

if TYPE_CHECKING:
    from worldsim.world import World

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Log = Callable[[str], None]

SPAN = 256  # frames that are judged at once
PER_SPAN = 8  # of them are tampered with, per kind
LEAST_AREA = 64 / (160 * 120)  # of the picture: smaller objects are a few pixels
LEAST_CHANGE = 8 / 127.5  # L1 in its box that makes a vanished object one that one could see
INSERTED = ("cut", "patch_noise", "block_shuffle")
ROWS = ("detector", "bound")


@dataclass(frozen=True)
class Scores:
    """What a detector says of many pairs, and which piece of footage each is from."""

    values: Floats  # (N, 2): detector, bound
    units: Ints  # (N,)


def grade(world: "World", library: Library, log: Log) -> dict[str, object]:
    """The block, JSON-ready."""
    limits = world.config.features
    if limits is None:
        return dict(Missing("this world has no features, hence no alarm").graded())
    log(f"grading {world.name}: alarm")
    found = collect(world, library)
    real = found.pop("real")
    report: dict[str, object] = {
        "epsilon": limits.epsilon,
        "cosine": limits.cosine,
        "limit": limits.alarm,
        "features": limits.phi,
    }
    for column, (row, limit) in enumerate(zip(ROWS, (limits.alarm, limits.epsilon), strict=True)):
        rings = np.asarray(1e3 * (real.values[:, column] > limit), dtype=np.float64)
        graded: dict[str, object] = {"false_alarms": _measured(rings, real.units).graded()}
        for kind, bad in found.items():
            graded[f"auroc_{kind}"] = _auroc(bad, real, column).graded()
            caught = (bad.values[:, column] > limit).astype(np.float64)
            graded[f"caught_{kind}"] = _measured(caught, bad.units).graded()
        report[row] = graded
    return report


def collect(world: "World", library: Library) -> dict[str, Scores]:
    """Scores of real pairs, "real", and of pairs of each kind of artifact."""
    parts: dict[str, list[Scores]] = {}
    with torch.random.fork_rng():
        torch.manual_seed(7)
        for footage in library.footage:
            boxes = visible_boxes(footage, library.frame_size)
            for start in range(0, len(footage.frames) - 1, SPAN):
                ticks = np.arange(start + 1, min(start + SPAN + 1, len(footage.frames)))
                ticks = ticks[~footage.resets[ticks]]
                if not len(ticks):
                    continue
                pairs = tampered(footage, ticks, boxes, _elsewhere(library))
                pairs["real"] = footage.frames[ticks - 1], footage.frames[ticks]
                for kind, (before, after) in pairs.items():
                    doubt = world.doubt(before, after)
                    assert doubt is not None, "asked of worlds with features only"
                    units = np.full(len(doubt), footage.unit_of(start))
                    parts.setdefault(kind, []).append(Scores(doubt, units))
    return {
        kind: Scores(
            np.concatenate([p.values for p in found]), np.concatenate([p.units for p in found])
        )
        for kind, found in parts.items()
    }


def tampered(
    footage: Footage, ticks: Ints, boxes: Sequence[Sequence[Box]], other: Tensor
) -> dict[str, tuple[Frames, Frames]]:
    """Per kind a few of the frames `ticks`, tampered with, behind the real ones before them:
    uint8 (n, H, W, 3) twice. `other` (3, H, W) is another moment; `boxes`, per frame."""
    found: dict[str, tuple[list[Frames], list[Tensor]]] = {}

    def add(kind: str, tick: int, shown: Tensor) -> None:
        before, after = found.setdefault(kind, ([], []))
        before.append(footage.frames[tick - 1])
        after.append(shown)

    for kind in INSERTED:
        for tick in _some(ticks):
            add(kind, tick, KINDS[kind](_pixels(footage.frames[tick]), other))
    for tick in _some(np.array([t for t in ticks if boxes[t] and boxes[t - 1]], dtype=np.int64)):
        picture = _pixels(footage.frames[tick])
        y, x, h, w = box = boxes[tick][int(torch.randint(len(boxes[tick]), ()))]
        without = erase(picture, box, FILLS[int(torch.randint(len(FILLS), ()))], other)
        change = (without - picture)[:, y : y + h, x : x + w].abs().mean()
        if change > LEAST_CHANGE:
            add("vanished", tick, without)
    return {
        kind: (np.stack(before), to_frames(torch.stack(after)).numpy())
        for kind, (before, after) in found.items()
    }


def visible_boxes(footage: Footage, size: tuple[int, int]) -> list[list[Box]]:
    """Per frame the boxes, in pixels of `size` (H, W), of the objects that are large enough and
    that were there in the frame before, too; none without a side file."""
    if footage.controls is None:
        return [[] for _ in footage.frames]
    from worldsim.data.recording import Recording
    from worldsim.data.scan import scan_file

    height, width = scan_file(footage.path).size or size
    tall, wide = size[0] / height, size[1] / width
    boxes: list[list[Box]] = []
    known: set[int] = set()
    for things in Recording.open(footage.path).objects()[: len(footage.frames)]:
        now = {t.id: t.box for t in things if t.in_view and t.box is not None}
        here = []
        for number, (x, y, w, h) in now.items():
            box = int(y * tall), int(x * wide), math.ceil(h * tall), math.ceil(w * wide)
            inside = box[0] + box[2] <= size[0] and box[1] + box[3] <= size[1]
            if number in known and inside and w * h >= LEAST_AREA * height * width:
                here.append(box)
        boxes.append(here)
        known = set(now)
    return boxes


def auroc(bad: Floats, real: Floats) -> Floats:
    """(N,) and (M,) -> per bad one the share of real ones below it, ties counting half: (N,). The
    mean of it is the area under the curve."""
    order = np.sort(real)
    below = np.searchsorted(order, bad, side="left")
    up_to = np.searchsorted(order, bad, side="right")
    return np.asarray((below + up_to) / (2 * len(order)), dtype=np.float64)


def _auroc(bad: Scores, real: Scores, column: int) -> Measure | Missing:
    return _measured(auroc(bad.values[:, column], real.values[:, column]), bad.units)


def _measured(values: Floats, units: Ints) -> Measure | Missing:
    if not len(values):
        return Missing("no such artifact could be made of this footage")
    return measure(values, units.tolist())


def _some(ticks: Ints) -> list[int]:
    return [int(t) for t in ticks[torch.randperm(len(ticks)).numpy()][:PER_SPAN]]


def _elsewhere(library: Library) -> Tensor:
    """Any frame of the library, (3, H, W)."""
    footage = library.footage[int(torch.randint(len(library.footage), ()))]
    return _pixels(footage.frames[int(torch.randint(len(footage.frames), ()))])


def _pixels(frame: Frames) -> Tensor:
    return to_pixels(torch.from_numpy(np.array(frame)))
