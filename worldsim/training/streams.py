"""Videos as endless parallel streams, so that memory can be carried from one step to the next.

A lane walks through an episode chunk by chunk; the trainer keeps each lane's state and carries it
on (truncated back-propagation through time). A lane jumps to a new place when its episode ends, or
now and then by chance, and then says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]


@dataclass(frozen=True)
class Chunk:
    """`ticks + 1` consecutive frames of each lane; the last one is the next chunk's first."""

    arrays: list[npt.NDArray[np.generic]]  # one per source, each (lanes, ticks + 1, ...)
    jumped: npt.NDArray[np.bool_]  # (lanes,) this chunk does not continue the lane's last one


class Streams:
    """Lanes over episodes; every source is one aligned array per episode (frames, actions, ..)."""

    def __init__(
        self,
        sources: Sequence[Sequence[Array]],
        *,
        lanes: int,
        ticks: int,
        jump: float,
        seed: int,
        footage: str = "",
        share: tuple[int, int] = (0, 1),
    ) -> None:
        """`footage` names what the episodes are, so that a position fits no other ones. `share`
        (i, n): of all `lanes` only the i-th of n equal parts is read."""
        lengths = [len(a) for a in sources[0]]
        usable = [i for i, n in enumerate(lengths) if n > ticks + 1]
        if not usable:
            raise ValueError(f"no episode is longer than {ticks + 1} frames")
        self._sources, self._ticks, self._jump = sources, ticks, jump
        self._footage = footage
        self._lengths, self._usable = lengths, usable
        self._weights = np.array([lengths[i] - ticks for i in usable], dtype=np.float64)
        self._weights /= self._weights.sum()
        self._random = np.random.default_rng(seed)
        if lanes % share[1]:
            raise ValueError(f"{lanes} lanes cannot be shared by {share[1]}")
        part = lanes // share[1]
        self._mine = slice(share[0] * part, (share[0] + 1) * part)
        self._episode = np.zeros(lanes, dtype=np.int64)
        self._start = np.full(lanes, -1, dtype=np.int64)

    @property
    def frames(self) -> int:
        """How many are read in a chunk, by all lanes of this share."""
        return (self._mine.stop - self._mine.start) * self._ticks

    def next(self) -> Chunk:
        """The next chunk of every lane."""
        lanes, ticks = len(self._episode), self._ticks
        jumped = np.zeros(lanes, dtype=np.bool_)
        for lane in range(lanes):
            start = self._start[lane]
            over = start < 0 or start + ticks >= self._lengths[self._episode[lane]]
            if over or self._random.random() < self._jump:
                episode = self._usable[self._random.choice(len(self._usable), p=self._weights)]
                self._episode[lane] = episode
                self._start[lane] = self._random.integers(self._lengths[episode] - ticks)
                jumped[lane] = True
        episodes, starts = self._episode[self._mine], self._start[self._mine]
        arrays = [
            np.stack(
                [
                    source[e][s : s + ticks + 1]
                    for e, s in zip(episodes.tolist(), starts.tolist(), strict=True)
                ]
            )
            for source in self._sources
        ]
        self._start += ticks
        return Chunk(arrays=arrays, jumped=jumped[self._mine])

    def position(self) -> dict[str, Any]:
        """Where every lane stands and what chance will do next; fit for JSON."""
        return {
            "footage": self._footage,
            "lengths": self._lengths,
            "episode": self._episode.tolist(),
            "start": self._start.tolist(),
            "random": self._random.bit_generator.state,
        }

    def seek(self, position: dict[str, Any]) -> bool:
        """Go on from a `position`. False, and every lane jumps, if it is one of other footage."""
        if (position["footage"], position["lengths"]) != (self._footage, self._lengths):
            return False
        episode, start = np.array(position["episode"]), np.array(position["start"])
        if episode.shape != self._episode.shape:
            raise ValueError(f"{len(episode)} lanes in the checkpoint, {len(self._episode)} now")
        self._episode, self._start = episode, start
        self._random.bit_generator.state = position["random"]
        return True
