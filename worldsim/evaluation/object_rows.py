"""Who finds objects: the slots of a world, and what they have to beat.

A finder turns clips into boxes: frames uint8 (B, T, H, W, 3) and actions (B, T), what led to each
frame -> (B, T, K, 4) as in tracks.py, NaN where a slot shows nothing. Rows keep their identity.

    slots            the world's
    probe            the same slots over a field that was taught where objects are, on other
                     recordings: about as good as slots over these latents can get
    grid             K boxes that stand still
    kmeans           K clusters of colour and place
    random_encoder   K clusters of the features of an encoder that was never trained
"""

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from worldsim.dynamics.objects import BOX, PRESENCE, REMEMBERED, Field, Objects
from worldsim.evaluation.metrics import Frames
from worldsim.evaluation.tracks import Truth
from worldsim.objects import look
from worldsim.tokenizer import Tokenizer, to_pixels

if TYPE_CHECKING:
    from worldsim.world import World

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

ROUNDS = 4  # of k-means per frame, from where the last frame left it
PLACE = 1.0  # weight of the place against colours of unit deviation
PROBE_STEPS, PROBE_BATCH = 250, 32


class Finder(Protocol):
    """Whoever finds objects."""

    def find(self, frames: Frames, actions: Ints) -> Floats: ...


class Slots:
    """The slots of a world, or `objects` in their place."""

    def __init__(self, world: "World", objects: Objects) -> None:
        self._world, self._objects = world, objects

    @torch.inference_mode()
    def find(self, frames: Frames, actions: Ints) -> Floats:
        latents = torch.from_numpy(np.stack([self._world.encode(clip) for clip in frames]))
        led = torch.from_numpy(actions).to(latents.device)
        led = torch.where(led < 0, self._objects.grid.num_actions, led)
        slots = look(self._objects, latents[:, :1], led[:, :1])
        found = [boxes_of(slots)]
        for t in range(1, latents.shape[1]):
            slots = self._objects.step(slots, latents[:, t - 1], led[:, t], latents[:, t])
            found.append(boxes_of(slots))
        return np.stack(found, axis=1)


def boxes_of(slots: Tensor) -> Floats:
    """Slots (B, K, D) -> boxes (B, K, 4) of what is in view."""
    seen = slots[..., PRESENCE, None] > REMEMBERED
    boxes: Floats = torch.where(seen, slots[..., BOX], torch.nan).double().cpu().numpy()
    return boxes


class Grid:
    """Boxes that stand still."""

    def __init__(self, count: int) -> None:
        rows = 2 if count % 2 == 0 else 1
        columns = count // rows
        y, x = np.indices((rows, columns)).reshape(2, -1)
        size = np.ones(count)
        self._boxes = np.stack(
            [(x + 0.5) / columns, (y + 0.5) / rows, size / columns, size / rows], axis=1
        )

    def find(self, frames: Frames, actions: Ints) -> Floats:
        return np.broadcast_to(self._boxes, (*frames.shape[:2], *self._boxes.shape)).copy()


class Clusters:
    """k-means over places of a frame; the largest cluster is the background and shows nothing."""

    def __init__(self, count: int, encoder: Tokenizer | None = None) -> None:
        """Of colours, or of what an `encoder` says of its tokens."""
        self._count, self._encoder = count, encoder

    def find(self, frames: Frames, actions: Ints) -> Floats:
        return np.stack([self._clip(clip) for clip in frames])

    @torch.inference_mode()
    def _clip(self, clip: Frames) -> Floats:
        pixels = to_pixels(torch.from_numpy(np.ascontiguousarray(clip)))
        if self._encoder is None:
            cells = F.avg_pool2d(pixels, 4)
            grid, x = (cells.shape[2], cells.shape[3]), cells.flatten(2).transpose(1, 2)
        else:
            grid, x = self._encoder.config.grid, self._encoder.encode(pixels[None])[0]
        x = (x - x.mean(dim=(0, 1))) / x.std(dim=(0, 1)).clamp(min=1e-3) / x.shape[2] ** 0.5
        y, z = np.indices(grid).reshape(2, -1)
        place = np.stack([(z + 0.5) / grid[1], (y + 0.5) / grid[0]], axis=1)
        where = torch.from_numpy(place).float()
        x = torch.cat([x, PLACE * where.expand(len(x), -1, -1)], dim=2)
        picks = torch.linspace(0, x.shape[1] - 1, self._count + 1).long()
        centres, found = x[0, picks], []
        for frame in x:
            for _ in range(ROUNDS):
                mine = F.one_hot(torch.cdist(frame, centres).argmin(dim=1), len(centres)).float()
                count = mine.sum(dim=0)[:, None]
                centres = torch.where(count > 0, mine.T @ frame / count.clamp(min=1), centres)
            found.append(_extents(mine.bool().numpy(), place, grid))
        return np.stack(found)


def _extents(mine: npt.NDArray[np.bool_], place: Floats, grid: tuple[int, int]) -> Floats:
    """Who owns which place, (N, K + 1) -> the boxes of all but the largest, (K, 4)."""
    boxes = np.full((mine.shape[1], 4), np.nan)
    half = np.array([0.5 / grid[1], 0.5 / grid[0]])
    for k in range(mine.shape[1]):
        if mine[:, k].any():
            low, high = place[mine[:, k]].min(axis=0) - half, place[mine[:, k]].max(axis=0) + half
            boxes[k] = [*(low + high) / 2, *(high - low)]
    boxes[mine.sum(axis=0).argmax()] = np.nan
    return boxes


def teach(
    world: "World", objects: Objects, clips: Sequence[Frames], truths: Sequence[Sequence[Truth]]
) -> Objects:
    """`objects` with a field that was taught, on clips (T, H, W, 3) with their true boxes."""
    taught = copy.deepcopy(objects)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        field = Field(objects.config, objects.grid)
        latents = torch.from_numpy(np.concatenate([world.encode(clip) for clip in clips]))
        wanted = torch.from_numpy(
            np.stack([_painted(t, objects) for clip in truths for t in clip]).astype(np.float32)
        )
        optimizer = torch.optim.AdamW(field.parameters(), 2e-3)
        for step in range(PROBE_STEPS):
            rows = torch.randint(len(latents), (PROBE_BATCH,))
            logit, _ = field(latents[rows])
            loss = F.binary_cross_entropy_with_logits(logit, wanted[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            optimizer.param_groups[0]["lr"] = 2e-3 * (1 - step / PROBE_STEPS)
    taught.field.load_state_dict(field.state_dict())
    return taught.to(next(objects.parameters()).device).eval().requires_grad_(False)


def _painted(truth: Truth, objects: Objects) -> Floats:
    """How much of each cell lies in a true box, (h, w), 0..1."""
    cells = np.zeros((objects.rows, objects.columns))
    for x, y, width, height in truth.boxes:
        covers = [
            np.clip(np.minimum(i + 1, (c + s / 2) * n) - np.maximum(i, (c - s / 2) * n), 0, 1)
            for n, c, s in ((objects.rows, y, height), (objects.columns, x, width))
            for i in [np.arange(n)]
        ]
        cells = np.maximum(cells, np.outer(*covers))
    return cells
