"""Does a frame cost more the longer the world has been running? And with attention instead?

Two states of the same world, one 100 and one 10,000 frames old, both really played, are stepped
alternately, so that whatever else the machine does hits both. Beside them the trunk alone, and two
twins of it with attention over time and a key-value cache (twins.py): one that sees a window, one
that sees everything. The twins have random weights and a cache that is filled beforehand; their
time does not depend on either. Run it with `worldsim bench context`.

Operations count multiplications and additions. Of attention only the matrix products are counted,
of Mamba-2 everything: that is to its disadvantage.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from worldsim.benchmarks import twins
from worldsim.benchmarks.timing import environment, percentiles, ratio_of_medians
from worldsim.dynamics import DynamicsConfig
from worldsim.dynamics.trunk import Trunk, TrunkState

if TYPE_CHECKING:
    from worldsim.state import WorldState
    from worldsim.world import World

YOUNG = 100  # frames
TIMED = 500  # frames of each state
HOLD = 12  # ticks that each action is held
WINDOW = 256  # ticks that the windowed twin sees
LENGTHS = (100, 1000, 2000, 4000, 7200)  # ticks that the twins are timed at
HORIZON = 7200  # frames: five minutes at 24 Hz
REPEATS, WARMUP = 30, 3


def measure_context(
    world: "World",
    *,
    frames: int = 10_000,
    timed: int = TIMED,
    lengths: Sequence[int] = LENGTHS,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, object]:
    """Play one state to an age of 100 frames and one to `frames`, time both; JSON-ready.

    ValueError unless `frames` is above 100.
    """
    if frames <= YOUNG:
        raise ValueError(f"frames must be > {YOUNG}, got {frames}")
    actions = _actions(world, frames + timed)
    say(f"playing {frames} frames")
    states = [_grow(world, world.reset(seed=0), YOUNG, actions)]
    states.append(_grow(world, states[0], frames, actions))
    young, old = _alternate(world, states, timed, actions)
    sizes = [state_bytes(state) for state in states]
    say("timing the twins")
    curve = time_twins(world.config.dynamics, lengths)
    last = curve[-1]
    return {
        "ratio_10000_100": ratio_of_medians(old, young),
        "memory_ratio": round(sizes[1] / sizes[0], 4),
        "attention_ratio_7200": round(last["full_ms"] / last["mamba_ms"], 3),
        "window_ratio_7200": round(last["window_ms"] / last["mamba_ms"], 3),
        **{f"flops_ratio_7200{k}": v for k, v in flops_ratios(world.config.dynamics).items()},
        "ages": [YOUNG, frames],
        "young_ms": percentiles(young),
        "old_ms": percentiles(old),
        "state_bytes": sizes[1],
        "twins": curve,
        "window": WINDOW,
        "world": world.name,
        "k": world.flow_steps,
        "env": environment(),
    }


def state_bytes(state: "WorldState") -> int:
    """What keeping `state` keeps in memory: whole storages, so that no view hides a past."""
    storages = {x.untyped_storage().data_ptr(): x for x in state.tensors().values()}
    return sum(x.untyped_storage().nbytes() for x in storages.values())


def _actions(world: "World", ticks: int) -> list[int]:
    rng = np.random.default_rng(0)
    held = np.repeat(rng.integers(world.num_actions, size=ticks // HOLD + 1), HOLD)
    return [int(action) for action in held]


def _grow(world: "World", state: "WorldState", age: int, actions: list[int]) -> "WorldState":
    """Play on until `state` is `age` frames old, with one flow step per frame."""
    for tick in range(int(state.tick[0]), age):
        state, _ = world.step(state, actions[tick], flow_steps=1)
    return state


def _alternate(
    world: "World", states: Sequence["WorldState"], timed: int, actions: list[int]
) -> tuple[list[float], list[float]]:
    """Milliseconds of each step of either state; who goes first alternates as well."""
    now, samples = list(states), ([], [])  # type: tuple[list[WorldState], tuple[list[float], ...]]
    for tick in range(WARMUP + timed):
        for which in (0, 1) if tick % 2 else (1, 0):
            begun = time.perf_counter()
            now[which], _ = world.step(now[which], actions[tick])
            samples[which].append(1e3 * (time.perf_counter() - begun))
    return samples[0][WARMUP:], samples[1][WARMUP:]


@torch.inference_mode()
def time_twins(config: DynamicsConfig, lengths: Sequence[int]) -> list[dict[str, float]]:
    """Milliseconds (median) and bytes of memory of a tick of the trunk and of its twins, per
    length of the past."""
    mamba = Trunk(config).eval().requires_grad_(False)
    attention = twins.attention_trunk(config)
    curve = []
    for length in lengths:
        states: dict[str, tuple[Trunk, TrunkState]] = {
            "mamba": (mamba, mamba.initial_state(1)),
            "window": (attention, twins.filled(attention, length, WINDOW)),
            "full": (attention, twins.filled(attention, length, length + WARMUP + REPEATS)),
        }
        point: dict[str, float] = {"frames": length}
        for name, (_, state) in states.items():
            point[f"{name}_mb"] = round(_memory_bytes(state) / 1e6, 2)
        for name, samples in _time_ticks(config, states):
            point[f"{name}_ms"] = round(statistics.median(samples), 3)
        curve.append(point)
    return curve


def _time_ticks(
    config: DynamicsConfig, states: dict[str, tuple[Trunk, TrunkState]]
) -> Iterator[tuple[str, list[float]]]:
    """Ticks of every trunk in turn: (name, milliseconds)."""
    latent, action = torch.randn(1, config.num_tokens, config.channels), torch.zeros(1).long()
    samples: dict[str, list[float]] = {name: [] for name in states}
    for _ in range(WARMUP + REPEATS):
        for name, (trunk, state) in states.items():
            begun = time.perf_counter()
            _, after = trunk.step(latent, action, torch.zeros(1), state)
            samples[name].append(1e3 * (time.perf_counter() - begun))
            states[name] = (trunk, after)
    return ((name, found[WARMUP:]) for name, found in samples.items())


def _memory_bytes(state: TrunkState) -> int:
    return sum(
        m.num_bytes if isinstance(m, twins.Cache) else m.numel() * m.element_size()
        for m in state.memory
    )


def mamba_flops(config: DynamicsConfig, *, projections: bool = True) -> int:
    """Operations of one place in one layer and tick. Per number of the state: decay, write (2),
    read (2)."""
    d, n, h = config.width, config.state_size, config.heads
    return 2 * d * (3 * d + 2 * n + h) * projections + 5 * d * n


def attention_flops(
    config: DynamicsConfig, past: int, *, projections: bool = True, joint: bool = False
) -> int:
    """The same of attention to `past` ticks of its own place, or of all places (`joint`)."""
    d = config.width
    return 8 * d * d * projections + 4 * d * past * (config.num_places if joint else 1)


def flops_ratios(config: DynamicsConfig, horizon: int = HORIZON) -> dict[str, float]:
    """Operations of mixing over time, added up over `horizon` frames, Mamba-2 over full attention:
    with the projections, without them, and if attention saw every place of every frame."""
    ticks = range(1, horizon + 1)

    def attention(*, projections: bool = True, joint: bool = False) -> int:
        return sum(attention_flops(config, t, projections=projections, joint=joint) for t in ticks)

    whole, bare = mamba_flops(config), mamba_flops(config, projections=False)
    return {
        "": round(horizon * whole / attention(), 6),
        "_without_projections": round(horizon * bare / attention(projections=False), 6),
        "_joint": round(horizon * whole / attention(joint=True), 6),
    }
