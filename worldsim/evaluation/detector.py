"""Where monsters are in a picture: a small detector, trained on real frames for the occasion.

A convolutional network says of every 4x4 cell whether the middle of a monster lies in it; it is
trained on half of the recordings, whose side files say where monsters are. A detection is a local
maximum above a threshold, which is chosen on the training half. It is right within REACH pixels of
a monster. What it is worth is its F1 on the other half: below PASSES nothing is measured with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldsim.data.recording import Recording
from worldsim.evaluation.footage import Library
from worldsim.evaluation.metrics import Frames

CELL = 4  # pixels
REACH = 10.0  # pixels, between a detection and the middle of a monster
MIN_AREA = 24.0  # square pixels: smaller monsters are specks at the far wall
PASSES = 0.6  # F1 on real frames
EVERY = 20  # frames between two that are looked at
STEPS, BATCH = 400, 16
MONSTERS = ("Demon", "DoomImp")
Points = npt.NDArray[np.float64]  # (N, 2): x, y in pixels


@dataclass(frozen=True)
class Detector:
    """`points` finds monsters; `real_f1` is what it is worth."""

    model: nn.Module
    threshold: float
    real_f1: float

    @torch.inference_mode()
    def points(self, frames: Frames) -> list[Points]:
        """Middles of the monsters in each of (N, H, W, 3)."""
        return [_peaks(heat, self.threshold) for heat in _heat(self.model, frames)]


def train_detector(library: Library) -> Detector | None:
    """A detector for the frames of `library`; None if its side files name no monsters."""
    halves: list[list[tuple[Frames, Points]]] = [[], []]
    for i, footage in enumerate(library.footage):
        if footage.controls is None:
            continue
        height, width = library.frame_size
        for tic, things in enumerate(Recording.open(footage.path).objects()[: len(footage.frames)]):
            if tic % EVERY == 0:
                boxes = [t.box for t in things if t.box is not None and t.name in MONSTERS]
                halves[i % 2].append(
                    (footage.frames[tic], middles(boxes, (width / 160, height / 120)))
                )
    if min(sum(len(points) for _, points in half) for half in halves) < 50:
        return None
    seen, unseen = halves
    model = _train(np.stack([f for f, _ in seen]), [p for _, p in seen])
    truth = [p for _, p in seen]
    heat = _heat(model, np.stack([f for f, _ in seen]))
    levels = np.linspace(0.1, 0.9, 17)
    scores = [f1(*counts([_peaks(h, level) for h in heat], truth)) for level in levels]
    threshold = float(levels[int(np.argmax(scores))])
    detector = Detector(model, threshold, 0.0)
    found = detector.points(np.stack([f for f, _ in unseen]))
    return Detector(model, threshold, f1(*counts(found, [p for _, p in unseen])))


def middles(
    boxes: Sequence[tuple[float, float, float, float]], scale: tuple[float, float] = (1.0, 1.0)
) -> Points:
    """Of boxes (x, y, width, height) that are large enough after scaling, (N, 2)."""
    across, down = scale
    kept = [b for b in boxes if b[2] * b[3] * across * down >= MIN_AREA]
    return np.array(
        [((b[0] + b[2] / 2) * across, (b[1] + b[3] / 2) * down) for b in kept], dtype=np.float64
    ).reshape(-1, 2)


def matches(found: Points, wanted: Points) -> int:
    """How many of `wanted` a detection of their own lies near to, the nearest pairs first."""
    if len(found) == 0 or len(wanted) == 0:
        return 0
    distance = np.linalg.norm(found[:, None] - wanted[None], axis=-1)
    pairs = 0
    while distance.size and distance.min() <= REACH:
        i, j = np.unravel_index(int(distance.argmin()), distance.shape)
        distance[i], distance[:, j] = np.inf, np.inf
        pairs += 1
    return pairs


def counts(found: Sequence[Points], wanted: Sequence[Points]) -> tuple[int, int, int]:
    """Matches, detections and monsters over all frames."""
    pairs = sum(matches(f, w) for f, w in zip(found, wanted, strict=True))
    return pairs, sum(map(len, found)), sum(map(len, wanted))


def f1(pairs: int, found: int, wanted: int) -> float:
    """Harmonic mean of precision and recall, 0..1."""
    return 2 * pairs / max(1, found + wanted)


def _train(frames: Frames, points: Sequence[Points]) -> nn.Module:
    with torch.random.fork_rng(), torch.inference_mode(False):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 16, 4, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(16, 32, 4, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(32, 32, 3, padding=2, dilation=2),
            nn.SiLU(),
            nn.Conv2d(32, 1, 1),
        )
        rate = torch.optim.AdamW(model.parameters(), 3e-3)
        targets = torch.stack([_target(p, frames.shape[1:3]) for p in points])
        for _ in range(STEPS):
            rows = torch.randint(len(frames), (BATCH,))
            logits = model(_input(frames[rows.numpy()]))[:, 0]
            loss = F.binary_cross_entropy_with_logits(
                logits, targets[rows], pos_weight=torch.tensor(4.0)
            )
            rate.zero_grad()
            loss.backward()
            rate.step()
    return model.eval()


def _target(points: Points, size: tuple[int, int]) -> Tensor:
    """(h, w) of cells: 1 at a monster's middle, falling off over a cell and a half."""
    rows = torch.arange(size[0] // CELL)[:, None] * CELL + CELL / 2
    columns = torch.arange(size[1] // CELL)[None] * CELL + CELL / 2
    heat = torch.zeros(size[0] // CELL, size[1] // CELL)
    for x, y in points.tolist():
        square = (rows - y) ** 2 + (columns - x) ** 2
        heat = torch.maximum(heat, torch.exp(-square / (2 * (0.75 * CELL) ** 2)))
    return heat


def _input(frames: Frames) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.no_grad()
def _heat(model: nn.Module, frames: Frames) -> list[Tensor]:
    parts = [
        torch.sigmoid(model(_input(frames[i : i + 64]))[:, 0]) for i in range(0, len(frames), 64)
    ]
    return list(torch.cat(parts))


def _peaks(heat: Tensor, threshold: float) -> Points:
    """Local maxima of 5x5 cells, in pixels."""
    top = F.max_pool2d(heat[None, None], 5, stride=1, padding=2)[0, 0]
    found = ((heat == top) & (heat >= threshold)).nonzero()
    points = found.flip(1).double() * CELL + CELL / 2
    return np.asarray(points.numpy())
