"""A game without a display: a script plays, as fast as the world can, and a clip is written."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from worldsim.clients.clip import ClipWriter
from worldsim.clients.script import Script, actions
from worldsim.clients.source import Source
from worldsim.signing import Signer


@dataclass(frozen=True, kw_only=True)
class Played:
    """What a headless game measured."""

    frames: int
    seconds: float
    p50_ms: float  # action to frame
    p99_ms: float
    flow_steps: dict[int, int]  # frames by the flow steps that they were given

    def line(self) -> str:
        """For a person."""
        rate = self.frames / self.seconds
        steps = ", ".join(f"{k} in {n} frames" for k, n in sorted(self.flow_steps.items()))
        return (
            f"{self.frames} frames in {self.seconds:.1f} s ({rate:.1f} per second), "
            f"action to frame p50 {self.p50_ms:.1f} ms, p99 {self.p99_ms:.1f} ms"
            + (f"; flow steps {steps}" if steps else "")
        )


def play_script(
    source: Source,
    script: Script,
    *,
    frames: int,
    clip: Path,
    on_first: Callable[[], None],
    signer: Signer | None = None,
) -> Played:
    """Play `frames` ticks of the script and write every frame to `clip`, signed if so wished.

    `on_first` is called when the first frame is there. Interrupted, the clip holds what was played.
    """
    latencies: list[float] = []
    levels: Counter[int] = Counter()
    began = time.perf_counter()
    with ClipWriter(clip, source.facts, signer) as writer:
        for action in actions(script, frames):
            picture = source.single(action)
            if picture.action_ms is not None:
                latencies.append(picture.action_ms)
            if picture.flow_steps is not None:
                levels[picture.flow_steps] += 1
            if writer.frames == 0:
                on_first()
            source.settle()
            writer.add(picture.frame, picture.sound)
    p50, p99 = np.percentile(latencies, [50, 99])
    seconds = time.perf_counter() - began
    return Played(
        frames=frames, seconds=seconds, p50_ms=float(p50), p99_ms=float(p99), flow_steps=levels
    )
