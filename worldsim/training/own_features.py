"""phi for those who have no other: a small network that learns from the footage, in a minute.

Two views of one moment (a few ticks apart, cut and coloured differently) must be nearer to each
other than to all other moments in the batch (InfoNCE: van den Oord et al. 2018; in time: Sermanet
et al. 2018). It is saved in RUN/features and made anew only for other footage.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from worldsim.phi import find_features, write_features
from worldsim.tokenizer import to_pixels
from worldsim.tokenizer.features import Features, Own
from worldsim.training.footage import Footage
from worldsim.training.say import say

BATCH = 64  # moments
APART = 8  # ticks at most between two views of a moment
CUT = 0.2  # at most of each side
COLOUR = 0.3  # at most, of contrast and brightness
TEMPERATURE = 0.1
RATE = 1e-3


def own_features(footage: Footage, run: Path, updates: int) -> Features:
    """Of this footage: those of an earlier run, or new ones after `updates` updates."""
    path = run / "features" / f"{footage.fingerprint[:24]}-{updates}.safetensors"
    with torch.random.fork_rng():  # what follows must not depend on whether this was needed
        torch.manual_seed(0)
        if not path.is_file():
            say(f"features: {updates} updates on this footage, since there are no others")
            net = _learn(footage.frames, updates)
            write_features(path, Own.name, net.state_dict())
        found = find_features(str(path))
    assert found is not None
    return found


def _learn(frames: list[Any], updates: int) -> Own:
    net, random = Own(), np.random.default_rng(0)
    optimizer = torch.optim.AdamW(net.parameters(), RATE)
    for update in range(updates):
        optimizer.param_groups[0]["lr"] = RATE * min(1.0, 4 * (1 - update / updates))
        one, other = (net(_view(to_pixels(v))) for v in _moments(frames, random, net.input_size))
        likeness = one @ other.T / TEMPERATURE
        same = torch.arange(len(one))
        loss = F.cross_entropy(likeness, same) + F.cross_entropy(likeness.T, same)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net


def _moments(
    frames: list[Any], random: np.random.Generator, size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Two frames uint8 of each of BATCH moments, roughly of `size`."""
    lengths = np.array([len(f) for f in frames])
    episodes = random.choice(len(frames), BATCH, p=lengths / lengths.sum())
    views: tuple[list[Any], list[Any]] = ([], [])
    for e in episodes.tolist():
        tick = int(random.integers(lengths[e]))
        near = int(np.clip(tick + random.integers(-APART, APART + 1), 0, lengths[e] - 1))
        thin = max(1, frames[e].shape[1] // size[0])  # large frames are slow to cut
        for view, at in zip(views, (tick, near), strict=True):
            view.append(frames[e][at][::thin, ::thin])
    return torch.from_numpy(np.stack(views[0])), torch.from_numpy(np.stack(views[1]))


def _view(pixels: Tensor) -> Tensor:
    """(N, 3, H, W), each cut and coloured by chance."""
    n = len(pixels)
    size = 1 - CUT * torch.rand(n)
    shift = (1 - size)[:, None] * (2 * torch.rand(n, 2) - 1)
    place = torch.zeros(n, 2, 3)
    place[:, 0, 0] = place[:, 1, 1] = size
    place[:, :, 2] = shift
    grid = F.affine_grid(place, list(pixels.shape), align_corners=False)
    cut = F.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)
    contrast, brightness = (COLOUR * (2 * torch.rand(n, 1, 1, 1) - 1) for _ in range(2))
    return (cut * (1 + contrast) + brightness).clamp(-1, 1)
