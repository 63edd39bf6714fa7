"""Which backend computes a world soonest on this machine, and does it say what torch says?

Speed: every backend plays its own game; they take turns, some ticks each, so that whatever else
the machine does hits all alike. Per tick: action to encoded frame, and everything (busy). Wall
clock, and the processor time of the process, which other programs disturb less.

Agreement: torch plays, and the backend answers every tick from the state that torch has reached, so
that errors do not add up by themselves: two games that differ by one rounding are different games
after a while, with any backend. It answers with the mean and with a sample. Samples decide (what is
new, which keyframe, which whole pixel): in float32 the same, in bfloat16 where it is close another
thing, which says nothing of who is right. What is remembered does add up, so the backend keeps a
memory of its own and is only told what torch has shown. Run it with `worldsim doctor --probe`.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from worldsim.backends.choice import BOUNDS
from worldsim.benchmarks.timing import percentiles

if TYPE_CHECKING:
    from worldsim.state import WorldState
    from worldsim.world import World

TURN = 8  # ticks in a row, of which the first finds cold caches and is not counted
HOLD = 12  # ticks that each action is held
JPEG_QUALITY = 85


def measure_backends(
    worlds: dict[str, "World"], *, ticks: int, followed: int
) -> dict[str, dict[str, Any]]:
    """Time about `ticks` ticks of each world, "torch" among them, and follow torch for `followed`
    ticks; JSON-ready rows by backend. Ratios are of medians: torch over this one."""
    samples = time_backends(list(worlds.values()), ticks=ticks)
    torch, plain = worlds["torch"], dict(zip(worlds, samples, strict=True))["torch"]
    rows: dict[str, dict[str, Any]] = {}
    for (name, world), times in zip(worlds.items(), samples, strict=True):
        rows[name] = {
            "answer_ms": percentiles(times[:, 0].tolist()),
            "busy_ms": percentiles(times[:, 1].tolist()),
            "cpu_busy_ms": percentiles(times[:, 3].tolist()),
            "answer_ratio": _ratio(plain[:, 0], times[:, 0]),
            "busy_ratio": _ratio(plain[:, 1], times[:, 1]),
            "cpu_answer_ratio": _ratio(plain[:, 2], times[:, 2]),
            "cpu_busy_ratio": _ratio(plain[:, 3], times[:, 3]),
        }
        if name != "torch":
            rows[name] |= agreement(torch, world, torch.reset(seed=1), ticks=followed)
            rows[name]["agrees"] = is_within_bounds(name, rows[name])
    return rows


def time_backends(worlds: Sequence["World"], *, ticks: int) -> list[NDArray[np.float64]]:
    """Per world (n, 4) ms: action to encoded frame, whole tick, and both in processor time."""
    import simplejpeg

    rng = np.random.default_rng(0)
    states = [world.reset(seed=0) for world in worlds]
    found: list[list[list[float]]] = [[] for _ in worlds]
    for turn in range(max(2, ticks // (TURN - 1) + 1)):
        action = int(rng.integers(worlds[0].num_actions))
        for i in np.roll(np.arange(len(worlds)), turn).tolist():
            for tick in range(TURN):
                wall, cpu = [time.perf_counter()], [time.process_time()]
                prediction = worlds[i].predict(states[i], action)
                picture = np.ascontiguousarray(prediction.output.frame[0])
                simplejpeg.encode_jpeg(picture, quality=JPEG_QUALITY, colorspace="RGB")
                wall.append(time.perf_counter())
                cpu.append(time.process_time())
                states[i] = worlds[i].advance(prediction)
                wall.append(time.perf_counter())
                cpu.append(time.process_time())
                if turn and tick:  # the first turn warms up
                    late = [1e3 * (c[1] - c[0]) for c in (wall, cpu)]
                    whole = [1e3 * (c[2] - c[0]) for c in (wall, cpu)]
                    found[i].append([late[0], whole[0], late[1], whole[1]])
    return [np.array(rows) for rows in found]


def agreement(
    plain: "World", other: "World", state: "WorldState", *, ticks: int
) -> dict[str, float]:
    """How far `other` is from `plain` along a game that `plain` plays from `state` on: the worst
    mean difference of a frame, in grey levels of 255, of the mean and of a sample, and how far the
    memory was off at the end, as a share of its length (L2)."""
    rng = np.random.default_rng(1)
    memory = state.memory
    levels = sampled = 0.0
    for tick in range(ticks):
        if tick % HOLD == 0:
            action = int(rng.integers(plain.num_actions))
        shown, answer = plain.predict(state, action), other.predict(state, action)
        mean, said = (x.predict(state, action, noise_scale=0.0) for x in (plain, other))
        sampled = max(sampled, _levels(shown.output.frame, answer.output.frame))
        levels = max(levels, _levels(mean.output.frame, said.output.frame))
        told = replace(shown, state=replace(state, memory=memory))
        memory = other.advance(told).memory
        state = plain.advance(shown)
    off = (memory.double() - state.memory.double()).norm() / state.memory.double().norm()
    return {"levels": levels, "sampled": sampled, "memory": off.item(), "ticks": ticks}


def quickest(rows: dict[str, dict[str, Any]]) -> str:
    """The backend with the shortest way to a frame, of those that agree with torch. Judged by
    processor time, which holds still while other programs run."""
    good = {name: row for name, row in rows.items() if row.get("agrees", name == "torch")}
    return max(good, key=lambda name: good[name]["cpu_answer_ratio"])


def is_within_bounds(name: str, row: dict[str, Any]) -> bool:
    """Whether a row of `measure_backends` keeps the bounds of its backend."""
    bound = BOUNDS[name]
    within = [row[key] <= getattr(bound, key) for key in ("levels", "sampled", "memory")]
    return all(within)  # NaN keeps none


def _levels(frame: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    return float(np.abs(frame.astype(int) - other.astype(int)).mean())


def _ratio(plain: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return round(float(np.median(plain) / np.median(other)), 3)
