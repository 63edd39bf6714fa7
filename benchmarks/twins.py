"""The trunk with attention over time in place of Mamba-2, of the same number of parameters.

Each place attends to its own past (rotary positions, Su et al. 2021), all of it or the last
`window` ticks, through a key-value cache that is written in place. Everything else of a layer is
the trunk's own; what attention has more in parameters than Mamba-2, the feed-forward layer gives.

Shapes: B batch, S places, D width, H heads, E = D / H, L ticks that a cache has room for.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldsim.dynamics import DynamicsConfig
from worldsim.dynamics.trunk import Trunk, TrunkLayer, TrunkState


@dataclass(frozen=True)
class Cache:
    """Keys and values of the past of one layer, and how many ticks were seen."""

    keys: Tensor  # (B * S, H, L, E)
    values: Tensor  # (B * S, H, L, E)
    seen: int

    @property
    def num_bytes(self) -> int:
        """Of the ticks that are remembered."""
        ticks = min(self.seen, self.keys.shape[2])
        each = self.keys[:, :, 0].numel() + self.values[:, :, 0].numel()
        return ticks * each * self.keys.element_size()


class TemporalAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.read = nn.Linear(width, 3 * width, bias=False)
        self.write = nn.Linear(width, width, bias=False)

    def step(self, x: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        """(B, D), cache -> (B, D), the same cache, one tick longer: it is written in place."""
        q, k, v = self.read(x).view(len(x), 3, self.heads, -1).unbind(dim=1)
        slot = cache.seen % cache.keys.shape[2]
        cache.keys[:, :, slot] = rotate(k, cache.seen)
        cache.values[:, :, slot] = v
        cache = replace(cache, seen=cache.seen + 1)
        ticks = min(cache.seen, cache.keys.shape[2])
        q = rotate(q, cache.seen - 1)[:, :, None]
        y = F.scaled_dot_product_attention(q, cache.keys[:, :, :ticks], cache.values[:, :, :ticks])
        written: Tensor = self.write(y.flatten(1))
        return written, cache


def rotate(x: Tensor, tick: int) -> Tensor:
    """(B, H, E), turned by the angles of `tick`."""
    half = x.shape[-1] // 2
    angle = tick * 10_000.0 ** (-torch.arange(half, device=x.device) / half)
    a, b = x.chunk(2, dim=-1)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


class TwinLayer(nn.Module):
    def __init__(self, config: DynamicsConfig, layer: TrunkLayer) -> None:
        """Takes its space, norms and feed-forward parts from the `layer` that it stands in for."""
        super().__init__()
        d = config.width
        self.norms, self.space, self.feed = layer.norms, layer.space, layer.feed
        self.time = TemporalAttention(d, config.heads)
        hidden = config.expand * d - round((size(self.time) - size(layer.time)) / (2 * d + 1))
        self.feed.widen, self.feed.narrow = nn.Linear(d, hidden), nn.Linear(hidden, d)

    def step(self, x: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        """(B, S, D), cache -> the same two, one tick later."""
        b, s, _ = x.shape
        x = x + self.space(self.norms[0](x))
        y, cache = self.time.step(self.norms[1](x).flatten(0, 1), cache)
        x = x + y.unflatten(0, (b, s))
        return x + self.feed(self.norms[2](x)), cache


def attention_trunk(config: DynamicsConfig) -> Trunk:
    """A trunk whose memories are caches; `filled` gives it a past."""
    trunk = Trunk(config)
    for i, layer in enumerate(trunk.layers):
        if isinstance(layer, TrunkLayer):
            trunk.layers[i] = TwinLayer(config, layer)
    return trunk.eval().requires_grad_(False)


def filled(trunk: Trunk, seen: int, room: int) -> TrunkState:
    """The memory of one player after `seen` ticks of noise, in caches for `room` ticks."""
    c = trunk.config
    shape = (c.num_places, c.heads, room, c.width // c.heads)
    with_memory = [layer for layer in trunk.layers if isinstance(layer, TwinLayer)]
    caches = [Cache(torch.randn(shape), torch.randn(shape), seen) for _ in with_memory]
    return TrunkState(memory=tuple(caches), latent=torch.randn(1, c.num_tokens, c.channels))  # type: ignore[arg-type]


def size(module: nn.Module) -> int:
    """Number of parameters."""
    return sum(p.numel() for p in module.parameters())
