"""What the tests of games share: a fake world as a source, and clips read back."""

from pathlib import Path
from typing import Any

import av
import numpy as np
from fake_world import FakeWorld

from worldsim.clients.local import LocalSource
from worldsim.clients.source import Beginning


def local(world: FakeWorld | None = None, **beginning: Any) -> LocalSource:
    return LocalSource(world or FakeWorld(), Beginning(**beginning))  # type: ignore[arg-type]


def read_clip(path: Path) -> tuple[list[np.ndarray], dict[str, str], float]:
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        rate = container.streams.video[0].average_rate
        assert rate is not None
        return frames, dict(container.metadata), float(rate)
