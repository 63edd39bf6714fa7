"""A small line plot as a PNG, with nothing but Pillow."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

SIZE, LEFT, RIGHT, TOP, BOTTOM = (720, 440), 76, 20, 36, 52
COLOURS = ("#1f5fa8", "#c4501b", "#2b7d3f", "#7a3f98", "#666666", "#b08d00")
TICKS = 5
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Axes:
    """What the plot is of, and how its sides are scaled."""

    title: str
    x: str
    y: str
    log: bool = False  # both sides, for positive values


def draw(path: Path, axes: Axes, lines: Mapping[str, Points]) -> None:
    """Write one coloured line per name; a single point is drawn as a dot."""
    image = Image.new("RGB", SIZE, "white")
    pen = ImageDraw.Draw(image)
    points = [point for line in lines.values() for point in line]
    across = _Scale([x for x, _ in points], LEFT, SIZE[0] - RIGHT, log=axes.log, zero=False)
    up = _Scale([y for _, y in points], SIZE[1] - BOTTOM, TOP, log=axes.log, zero=not axes.log)
    pen.text((LEFT, 10), axes.title, fill="black")
    for value in across.ticks():
        at = across(value)
        pen.line([(at, TOP), (at, SIZE[1] - BOTTOM)], fill="#e4e4e4")
        pen.text((at, SIZE[1] - BOTTOM + 6), f"{value:g}", fill="black", anchor="mt")
    for value in up.ticks():
        at = up(value)
        pen.line([(LEFT, at), (SIZE[0] - RIGHT, at)], fill="#e4e4e4")
        pen.text((LEFT - 6, at), f"{value:g}", fill="black", anchor="rm")
    pen.rectangle([LEFT, TOP, SIZE[0] - RIGHT, SIZE[1] - BOTTOM], outline="black")
    pen.text((SIZE[0] - RIGHT, SIZE[1] - 16), axes.x, fill="black", anchor="rm")
    pen.text((8, TOP - 12), axes.y, fill="black")
    for number, (name, line) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        places = [(across(x), up(y)) for x, y in line]
        if len(places) > 1:
            pen.line(places, fill=colour, width=2)
        if len(places) <= 30:
            for x, y in places:
                pen.ellipse([x - 3, y - 3, x + 3, y + 3], fill=colour)
        pen.text((LEFT + 12, TOP + 10 + 14 * number), name, fill=colour)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def tails(samples: Sequence[float]) -> list[tuple[float, float]]:
    """Samples as a curve of percentiles: (share of the samples in %, at most this much)."""
    ordered = sorted(samples)
    return [(100 * (i + 1) / len(ordered), value) for i, value in enumerate(ordered)]


class _Scale:
    """Values to pixels."""

    def __init__(
        self, values: Sequence[float], start: float, end: float, *, log: bool, zero: bool
    ) -> None:
        self._log, self._start, self._end = log, start, end
        spread = [self._warp(value) for value in values] or [0.0]
        self._low, self._high = min(spread), max(spread)
        if zero:
            self._low = min(self._low, 0.0)
        if self._high == self._low:
            self._high += 1.0

    def __call__(self, value: float) -> float:
        share = (self._warp(value) - self._low) / (self._high - self._low)
        return self._start + share * (self._end - self._start)

    def ticks(self) -> list[float]:
        """Round values within the range."""
        if self._log:
            return [10.0**power for power in range(math.ceil(self._low), int(self._high) + 1)]
        step = 10 ** math.floor(math.log10((self._high - self._low) / TICKS))
        while (self._high - self._low) / step > 2 * TICKS:
            step *= 2
        first = math.ceil(self._low / step)
        return [i * step for i in range(first, math.floor(self._high / step) + 1)]

    def _warp(self, value: float) -> float:
        return math.log10(max(value, 1e-9)) if self._log else value
