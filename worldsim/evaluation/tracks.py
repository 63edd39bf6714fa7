"""Measures of boxes that are followed over time.

A box is x, y, width, height in parts of the frame, x, y its middle. A frame has any number of true
boxes (M, 4) with ids (M,), and of found ones (K, 4), whose ids are their rows; a row that shows
nothing is NaN.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

OVERLAP = 0.3  # intersection over union from which a box has found another: most are small
GRID = (60, 80)  # places of a frame at which masks are compared, down and across


@dataclass(frozen=True)
class Truth:
    """The objects of one frame that count."""

    ids: Ints  # (M,)
    boxes: Floats  # (M, 4)


def iou(a: Floats, b: Floats) -> Floats:
    """Intersection over union, (M, 4), (K, 4) -> (M, K); 0 with NaN."""
    low = np.maximum((a[:, :2] - a[:, 2:] / 2)[:, None], (b[:, :2] - b[:, 2:] / 2)[None])
    high = np.minimum((a[:, :2] + a[:, 2:] / 2)[:, None], (b[:, :2] + b[:, 2:] / 2)[None])
    both = np.clip(high - low, 0, None).prod(axis=-1)
    either = a[:, 2:].prod(axis=-1)[:, None] + b[:, 2:].prod(axis=-1)[None] - both
    shared = np.divide(both, either, out=np.zeros_like(both), where=either > 0)
    return np.nan_to_num(np.where(np.isfinite(either), shared, 0.0))


def assign(cost: Floats) -> list[tuple[int, int]]:
    """The cheapest one-to-one pairs of rows and columns, as many as there can be (Kuhn 1955, the
    Hungarian method, by shortest paths with potentials)."""
    if cost.shape[0] > cost.shape[1]:
        return [(i, j) for j, i in assign(cost.T)]
    n, m = cost.shape
    u, v = np.zeros(n + 1), np.zeros(m + 1)
    owner = np.zeros(m + 1, dtype=np.int64)
    for i in range(1, n + 1):
        owner[0], j = i, 0
        least, way = np.full(m + 1, np.inf), np.zeros(m + 1, dtype=np.int64)
        used = np.zeros(m + 1, dtype=bool)
        while owner[j]:
            used[j] = True
            reduced = cost[owner[j] - 1] - u[owner[j]] - v[1:]
            better = ~used[1:] & (reduced < least[1:])
            least[1:][better], way[1:][better] = reduced[better], j
            following = int(np.where(used, np.inf, least).argmin())
            delta = least[following]
            u[owner[used]] += delta
            v[used] -= delta
            least[~used] -= delta
            j = following
        while j:
            owner[j] = owner[way[j]]
            j = int(way[j])
    return sorted((int(owner[j]) - 1, j - 1) for j in range(1, m + 1) if owner[j])


def best_overlap(truth: Truth, found: Floats) -> Floats:
    """Of each true box, the overlap with the found one that overlaps most, (M,)."""
    shared = iou(truth.boxes, found)
    return shared.max(axis=1) if shared.shape[1] else np.zeros(len(truth.ids))


def position_errors(truth: Truth, found: Floats, mean: Floats) -> tuple[float, float]:
    """Squared errors of the middles of the nearest found boxes, one for each true box, and those
    of the `mean` (2,) of all middles, which is also what stands for a box nobody found. Units:
    heights of a 4:3 frame, in which both axes count alike."""
    scale = np.array([4 / 3, 1.0])
    middles, there = truth.boxes[:, :2] * scale, found[np.isfinite(found[:, 0])]
    around = ((middles - mean * scale) ** 2).sum(axis=1)
    errors = around.copy()
    if len(there) and len(middles):
        away = ((middles[:, None] - there[None, :, :2] * scale) ** 2).sum(axis=-1)
        for i, j in assign(away):
            errors[i] = away[i, j]
    return float(errors.sum()), float(around.sum())


def identity_counts(truths: Sequence[Truth], found: Sequence[Floats]) -> tuple[float, float]:
    """2 IDTP, and true plus found boxes, over the frames of a clip: their ratio is IDF1 (Ristani
    et al. 2016). Each true object may be one row only, over the whole clip."""
    names = sorted({int(i) for truth in truths for i in truth.ids})
    rows = max((len(f) for f in found), default=0)
    shared, total = np.zeros((len(names), rows)), 0
    for truth, boxes in zip(truths, found, strict=True):
        total += len(truth.ids) + int(np.isfinite(boxes[:, 0]).sum())
        hits = iou(truth.boxes, boxes) >= OVERLAP
        for i, name in enumerate(truth.ids):
            shared[names.index(int(name)), : len(boxes)] += hits[i]
    same = sum(shared[i, j] for i, j in assign(-shared)) if shared.size else 0.0
    return 2.0 * float(same), float(total)


def foreground_ari(truth: Truth, found: Floats) -> float:
    """Adjusted Rand index of the places inside true boxes, by whose they are; NaN with fewer than
    two true objects. A place belongs to the nearest box that holds it; of true ones to the
    largest, which is the nearest to the eye."""
    y, x = ((np.indices(GRID) + 0.5) / np.array(GRID)[:, None, None]).reshape(2, -1)
    order = np.argsort(truth.boxes[:, 2:].prod(axis=-1))
    real = np.full(len(x), -1)
    for i in order:
        real[_distance(truth.boxes[i], x, y) <= 1] = i
    inside = real >= 0
    if len(np.unique(real[inside])) < 2:
        return float("nan")
    away = np.stack([np.full(len(x), 1.0), *(_distance(box, x, y) for box in found)])
    owner = np.where(np.isfinite(away), away, np.inf).argmin(axis=0)
    return adjusted_rand(real[inside], owner[inside])


def adjusted_rand(a: Ints, b: Ints) -> float:
    """1 for the same partition, about 0 for unrelated ones (Hubert and Arabie 1985)."""
    table = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(table, (a, b), 1)
    pairs = [(n * (n - 1) / 2).sum() for n in (table, table.sum(axis=1), table.sum(axis=0))]
    chance = pairs[1] * pairs[2] / (len(a) * (len(a) - 1) / 2)
    most = (pairs[1] + pairs[2]) / 2
    return 1.0 if most == chance else float((pairs[0] - chance) / (most - chance))


def _distance(box: Floats, x: Floats, y: Floats) -> Floats:
    """Of places from the middle of a box, in half sides: at most 1 inside."""
    across = np.abs(x - box[0]) / max(box[2] / 2, 1e-6)
    down = np.abs(y - box[1]) / max(box[3] / 2, 1e-6)
    return np.asarray(np.maximum(across, down))
