"""How a picture moves under an action, in pixels per tick: what a code can be named by."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worldsim.evaluation.metrics import FLOW_REACH, block_flow

PAIRS = 64  # of frames that are looked at per code


@dataclass(frozen=True, kw_only=True)
class Motion:
    """The mean motion of what moves, in pixels per tick."""

    right: float  # of the whole picture
    down: float
    nearer: float  # away from the middle of the picture, at half of the way to its border

    @property
    def size(self) -> float:
        return abs(self.right) + abs(self.down) + abs(self.nearer)


def mean_motion(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> Motion:
    """Of pairs of frames (N, H, W, 3): each block of the picture counts by how much better it
    matches moved than at rest. No motion at all without a pair."""
    if len(before) == 0:
        return Motion(right=0.0, down=0.0, nearer=0.0)
    across, down, gain = block_flow(before, after, FLOW_REACH)
    rows, columns = across.shape[1:]
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in (rows, columns)), indexing="ij")
    weight = gain / max(float(gain.sum()), 1e-9)
    outwards = (across * x + down * y) / 2
    return Motion(
        right=float((weight * across).sum()),
        down=float((weight * down).sum()),
        nearer=float((weight * outwards).sum()),
    )


def motion_of_codes(
    frames: list[NDArray[np.uint8]], codes: list[NDArray[np.int64]], num_codes: int
) -> list[Motion]:
    """What each code does in real footage: frames (T, H, W, 3) per episode, and the codes (T,)
    that led to them. Looks at PAIRS frames per code, spread evenly."""
    motions = []
    for code in range(num_codes):
        found = [(e, t) for e, c in enumerate(codes) for t in np.flatnonzero(c[1:] == code) + 1]
        chosen = np.linspace(0, len(found) - 1, min(PAIRS, len(found))).round().astype(int)
        pairs = [(frames[e][t - 1], frames[e][t]) for e, t in (found[i] for i in chosen)]
        stacked = np.array(pairs) if pairs else np.zeros((0, 2, 1, 1, 3), dtype=np.uint8)
        motions.append(mean_motion(stacked[:, 0], stacked[:, 1]))
    return motions
