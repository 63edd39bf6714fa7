"""Video of any rate, even a changing one, brought to one rate by dropping and repeating frames."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

LONGEST_GAP = 1.0  # seconds for which a frame is repeated; beyond, time stamps are not believed
TIE = 0.05  # ticks by which the earlier of two frames may be farther: rounding decides no tie
T = TypeVar("T")


def at_rate(timed: Iterable[tuple[float, T]], fps: float) -> Iterator[tuple[int, T]]:
    """Of pictures with their times in seconds, rising: for every tick of `fps` the one that is
    nearest to it in time, with its index.

    At its own rate a video comes out as it went in, however its time stamps were rounded.
    """
    tie = TIE / fps  # seconds
    last: tuple[float, int, T] | None = None
    begin, tick = 0.0, 0  # the tick that comes next is due at begin + tick / fps
    for index, (when, picture) in enumerate(timed):
        if last is None:
            begin = when
        else:
            if when - last[0] > LONGEST_GAP:  # as if the picture had come a tick later
                begin += when - last[0] - 1 / fps
                last = (when - 1 / fps, *last[1:])
            middle = (last[0] + when) / 2 + tie
            while begin + tick / fps < middle:
                yield last[1], last[2]
                tick += 1
        last = (when, index, picture)
    if last is not None and begin + (tick - 0.5) / fps + tie <= last[0]:
        yield last[1], last[2]
