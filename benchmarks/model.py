"""What does a frame cost by the numbers: parameters, operations and bytes of every part?

Counted by running every part of a tick on tensors without memory (torch's meta device), so that a
model of any size can be asked. Operations are those of matrix products and convolutions, by
torch's own counter, a multiplication and an addition each counting as one. Bytes: `bytes` is what
separate operations read and write, one after the other; `least_bytes` is weights and memory alone,
which no fusion saves. Beside them stand what the device does at best (floors.py) and, for worlds
that exist, what a part takes. Run it with `worldsim bench model`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from worldsim.benchmarks.timing import environment
from worldsim.dynamics.matching import match
from worldsim.floors import measure_floors, median_ms
from worldsim.folder import WorldConfig
from worldsim.model import WorldModel
from worldsim.world import World

MEASURED_SECONDS = 1.0  # per part


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of a tick, ready to run."""

    modules: tuple[torch.nn.Module, ...]
    run: Callable[[], object]
    times: int  # per tick
    state_bytes: int = 0  # memory that it reads and writes


class Traffic(TorchDispatchMode):
    """Adds up the bytes that operations read and write, views left out."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            touched = [x for x in tree_leaves((args, kwargs, out)) if isinstance(x, Tensor)]
            self.bytes += sum(x.numel() * x.element_size() for x in touched)
        return out


def measure_model(
    config: WorldConfig, *, flow_steps: int, device: str, world: World | None = None
) -> dict[str, object]:
    """Count what a tick of a world with `config` takes, measure the device, and the parts of
    `world` if there is one; JSON-ready."""
    with torch.device("meta"):
        model = WorldModel(config).eval().requires_grad_(False)
    floors = measure_floors(device)
    rows = {name: count(part) for name, part in parts(model, flow_steps, "meta").items()}
    if world is not None:
        with torch.inference_mode():
            for name, part in parts(world._model, flow_steps, device).items():
                each = median_ms(part.run, device, MEASURED_SECONDS)
                rows[name]["measured_ms"] = round(part.times * each, 3)
    for row in rows.values():
        row["floor_ms"] = round(floor_ms(row, floors), 3)
    names = ("flops", "bytes", "least_bytes", "floor_ms")
    dynamics = model.dynamics
    return {
        "parameters": {
            "all": size(model),
            "tokenizer": size(model.tokenizer),
            "trunk": size(dynamics.trunk),
            "head": size(dynamics.head),
            "trunk_and_head": size(dynamics),
        },
        "parts": rows,
        "tick": {name: round(sum(row[name] for row in rows.values()), 3) for name in names},
        "device": device,
        "floors": floors,
        "world": config.name,
        "size": [config.tokenizer.height, config.tokenizer.width],
        "k": flow_steps,
        "env": environment(),
    }


def parts(model: WorldModel, flow_steps: int, device: str) -> dict[str, Part]:
    """Every part of a tick of one player, on noise, in the order in which they run."""
    d, t = model.dynamics, model.tokenizer
    c = d.config

    def noise(*shape: int) -> Tensor:
        return torch.randn(1, *shape, device=device)

    latent, context = noise(c.num_tokens, c.channels), noise(c.num_places, c.width)
    picture = noise(3, t.config.height, t.config.width)
    action, level = torch.zeros(1, dtype=torch.int64, device=device), torch.zeros(1, device=device)
    clock = torch.zeros(1, 3, device=device)
    motion = match(picture, picture, (c.rows, c.columns))
    state = d.initial_state(1)
    seen = (context, latent, latent, motion, picture, action)
    move = partial(d.head.move, *seen, lambda *_: (picture, latent))
    with torch.no_grad():
        moved = move()
    memory = sum(m.numel() * m.element_size() for m in state.memory)
    flow = noise(2, t.config.height, t.config.width)
    return {
        "mover": Part(modules=(d.head.mover,), run=move, times=1),
        "encoder": Part(modules=(t.encoder,), run=partial(t.move, picture, flow), times=1),
        "flow": Part(
            modules=(d.head.read, d.head.clock, d.head.layers, d.head.write),
            run=partial(d.head, latent, clock, moved, action),
            times=flow_steps,
        ),
        "decoder": Part(
            modules=(t.decoder,), run=partial(t.decoder, latent, latent, picture), times=1
        ),
        "motion": Part(
            modules=(), run=partial(match, picture, picture, (c.rows, c.columns)), times=1
        ),
        "trunk": Part(
            modules=(d.trunk,),
            run=partial(d.trunk.step, latent, action, level, state),
            times=1,
            state_bytes=2 * memory,
        ),
    }


def count(part: Part) -> dict[str, float]:
    """Operations and bytes of a part in one tick."""
    # as plain matrix products, attention is counted as well
    counter, traffic = FlopCounterMode(display=False), Traffic()
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        part.run()
    with torch.no_grad(), traffic:
        part.run()
    weights = sum(p.numel() * p.element_size() for m in part.modules for p in m.parameters())
    return {
        "parameters": sum(size(module) for module in part.modules),
        "flops": part.times * counter.get_total_flops(),
        "bytes": part.times * traffic.bytes,
        "least_bytes": part.times * (weights + part.state_bytes),
    }


def floor_ms(row: dict[str, float], floors: dict[str, float]) -> float:
    """No less time can a part take in float32: its products or its traffic, whichever is more."""
    computing = row["flops"] / (1e9 * floors["fp32_gflops"])
    moving = row["least_bytes"] / (1e9 * floors["copy_gb_per_s"])
    return 1e3 * max(computing, moving)


def size(module: torch.nn.Module) -> int:
    """Number of parameters."""
    return sum(p.numel() for p in module.parameters())
