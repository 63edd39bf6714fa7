"""How long from an action to its encoded frame, and how long is the whole tick? Engine only.

Per tick: predict (head, decoder), encode as JPEG, then advance (the memory trunk). The first two
are *action to encoded frame*, all of it is *busy*. No socket, no window, one intra-op thread,
frames as fast as they come; the limit is the processor. Run it with `worldsim bench latency`.
"""

import time
from typing import TYPE_CHECKING

import numpy as np

from worldsim.benchmarks.timing import environment, percentiles, summary

if TYPE_CHECKING:
    from worldsim.world import World

WARMUP = 30  # ticks: first calls allocate
HOLD = 12  # ticks that each action is held
JPEG_QUALITY = 85


def measure_latency(
    world: "World", *, frames: int, flow_steps: int | None = None
) -> dict[str, object]:
    """Time `frames` ticks of batch 1; JSON-ready. ValueError unless `frames` is at least 1."""
    if frames < 1:
        raise ValueError(f"frames must be >= 1, got {frames}")
    if flow_steps is not None:
        world.flow_steps = flow_steps
    ticks = _run(world, frames)
    budget_ms = 1000 / world.fps
    answered = [tick["predict_ms"] + tick["encode_ms"] for tick in ticks]
    busy = [tick["busy_ms"] for tick in ticks]
    stages = sorted({name for tick in ticks for name in tick} - {"busy_ms"})
    return {
        **summary(answered, budget_ms=budget_ms),
        "busy_ms": percentiles(busy),
        "busy_fraction_p50": round(percentiles(busy)["p50"] / budget_ms, 4),
        "stages": {name: percentiles([tick.get(name, 0.0) for tick in ticks]) for name in stages},
        "growth": _growth(answered),
        "world": world.name,
        "backend": world.backend,
        "k": world.flow_steps,
        "env": environment(),
    }


def _run(world: "World", frames: int) -> list[dict[str, float]]:
    """Times of every tick after the warm-up, in ms."""
    import simplejpeg

    rng = np.random.default_rng(0)
    actions = np.repeat(rng.integers(world.num_actions, size=frames // HOLD + WARMUP), HOLD)
    state = world.reset(seed=0)
    ticks: list[dict[str, float]] = []
    for tick in range(WARMUP + frames):
        start = time.perf_counter()
        prediction = world.predict(state, int(actions[tick]))
        predicted = time.perf_counter()
        picture = np.ascontiguousarray(prediction.output.frame[0])
        simplejpeg.encode_jpeg(picture, quality=JPEG_QUALITY, colorspace="RGB")
        encoded = time.perf_counter()
        state = world.advance(prediction)
        end = time.perf_counter()
        inside = {name: float(ms) for name, ms in prediction.output.timing.items()}
        ticks.append(
            inside
            | {
                "predict_ms": 1e3 * (predicted - start),
                "encode_ms": 1e3 * (encoded - predicted),
                "busy_ms": 1e3 * (end - start),
            }
        )
    return ticks[WARMUP:]


def _growth(milliseconds: list[float]) -> float | None:
    """Median of the last tenth over the median of the first: 1 when cost does not grow."""
    tenth = len(milliseconds) // 10
    if tenth == 0:
        return None
    first = percentiles(milliseconds[:tenth])["p50"]
    return round(percentiles(milliseconds[-tenth:])["p50"] / first, 4)
