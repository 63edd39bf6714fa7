"""What a policy and a side file see of one tic: picture, sound, pose, things, and the walls.

Map units; angles in degrees, counter-clockwise, 0 = east. A control `turn_left` raises the angle.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Box = tuple[int, int, int, int]  # x, y, width, height in pixels of the recorded frame


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One object of the game; `box` is None while it is out of view."""

    id: int
    name: str
    category: str | None
    position: tuple[float, float, float]
    box: Box | None


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One tic: frame uint8 (H, W, 3), sound int16 (630,), and the ground truth behind them."""

    frame: NDArray[np.uint8]
    sound: NDArray[np.int16]
    x: float
    y: float
    angle: float  # degrees, 0..360
    things: tuple[Thing, ...]

    def bearing(self, x: float, y: float) -> float:
        """Degrees to turn left (positive) or right to face a point, -180..180."""
        angle = math.degrees(math.atan2(y - self.y, x - self.x)) - self.angle
        return (angle + 180.0) % 360.0 - 180.0

    def distance(self, x: float, y: float) -> float:
        """Map units from the player to a point."""
        return math.hypot(x - self.x, y - self.y)


class Walls:
    """The blocking lines of a map, for rays; float (N, 4) of x1, y1, x2, y2."""

    def __init__(self, lines: NDArray[np.float64]) -> None:
        self.start = lines[:, :2]
        self.edge = lines[:, 2:] - lines[:, :2]

    def clearance(self, x: float, y: float, angle: float) -> float:
        """Map units from a point to the first wall in direction `angle`; inf if there is none."""
        ray = np.array([math.cos(math.radians(angle)), math.sin(math.radians(angle))])
        to_start = self.start - np.array([x, y])
        cross = ray[0] * self.edge[:, 1] - ray[1] * self.edge[:, 0]
        with np.errstate(divide="ignore", invalid="ignore"):
            along = (to_start[:, 0] * self.edge[:, 1] - to_start[:, 1] * self.edge[:, 0]) / cross
            share = (to_start[:, 0] * ray[1] - to_start[:, 1] * ray[0]) / cross
        hits = along[(along > 0) & (share >= 0) & (share <= 1)]
        return float(hits.min()) if hits.size else math.inf
