"""The memory trunk: reads what happened, one tick at a time, and keeps what will matter.

Per layer: attention over the places of a frame, a Mamba-2 state per place over time (in all layers
or in every n-th), a feed-forward layer. The trunk sees the clean latent and the action that led to
it; it does not need the next action, so in play it runs after the frame has left.

Shapes: B batch, T ticks, P tokens, C channels, S places (tokens, then registers), D width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from worldsim.dynamics.actions import embed_actions
from worldsim.dynamics.attention import SpatialAttention
from worldsim.dynamics.config import DynamicsConfig
from worldsim.dynamics.layers import FeedForward
from worldsim.dynamics.ssm import Mamba2


@dataclass(frozen=True)
class TrunkState:
    """What the trunk remembers."""

    memory: tuple[Tensor, ...]  # one (B, S, H, E, N) per layer that has a memory
    latent: Tensor  # (B, P, C), the last latent that was read


class TrunkLayer(nn.Module):
    def __init__(self, config: DynamicsConfig) -> None:
        super().__init__()
        d = config.width
        self.norms = nn.ModuleList(nn.RMSNorm(d) for _ in range(3))
        self.space = SpatialAttention(config, conditioned=False)
        self.time = Mamba2(d, config.heads, config.state_size)
        self.feed = FeedForward(d, config.expand)

    def forward(self, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, S, D), (B, S, H, E, N) -> the same two, after T ticks."""
        b, t, s, _ = x.shape
        x = x + self.space(self.norms[0](x).flatten(0, 1)).unflatten(0, (b, t))
        y = self.norms[1](x).transpose(1, 2).flatten(0, 1)
        y, memory = self.time(y, memory.flatten(0, 1))
        x = x + y.unflatten(0, (b, s)).transpose(1, 2)
        return x + self.feed(self.norms[2](x)), memory.unflatten(0, (b, s))

    def step(self, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S, D), (B, S, H, E, N) -> the same two, one tick later."""
        b, s, _ = x.shape
        x = x + self.space(self.norms[0](x))
        y, memory = self.time.step(self.norms[1](x).flatten(0, 1), memory.flatten(0, 1))
        x = x + y.unflatten(0, (b, s))
        return x + self.feed(self.norms[2](x)), memory.unflatten(0, (b, s))


class SpaceLayer(nn.Module):
    """A layer without memory, between those that have one."""

    def __init__(self, config: DynamicsConfig) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.RMSNorm(config.width) for _ in range(2))
        self.space = SpatialAttention(config, conditioned=False)
        self.feed = FeedForward(config.width, config.expand)

    def forward(self, x: Tensor) -> Tensor:
        """(..., S, D) -> (..., S, D)."""
        lead = x.shape[:-2]
        x = x + self.space(self.norms[0](x).flatten(0, -3)).unflatten(0, lead)
        return x + self.feed(self.norms[1](x))  # type: ignore[no-any-return]


class Trunk(nn.Module):
    def __init__(self, config: DynamicsConfig) -> None:
        super().__init__()
        d = config.width
        self.config = config
        self.read = nn.Linear(2 * config.channels, d)
        self.places = nn.Parameter(0.02 * torch.randn(config.num_places, d))
        self.action = embed_actions(config.num_actions, config.axes, d)
        self.level = nn.Linear(1, d)
        self.layers = nn.ModuleList(
            SpaceLayer(config) if i % config.memory_every else TrunkLayer(config)
            for i in range(1, config.trunk_layers + 1)
        )
        self.norm = nn.RMSNorm(d)

    def initial_state(self, batch: int) -> TrunkState:
        """Memory of a world in which nothing has happened yet."""
        c, s = self.config, self.config.num_places
        memory = tuple(
            layer.time.initial_state(batch * s).unflatten(0, (batch, s))
            for layer in self.layers
            if isinstance(layer, TrunkLayer)
        )
        latent = self.places.new_zeros(batch, c.num_tokens, c.channels)
        return TrunkState(memory=memory, latent=latent)

    def forward(
        self, latents: Tensor, actions: Tensor, levels: Tensor, state: TrunkState
    ) -> tuple[Tensor, TrunkState]:
        """Read T ticks.

        latents (B, T, P, C); actions, what led to each latent: codes (B, T), num_actions if
        unknown, or axes (B, T, A), NaN if unknown; levels (B, T), standard deviation of the noise
        in each latent -> context (B, T, S, D) for the head, state after the last tick.
        """
        before = torch.cat([state.latent[:, None], latents[:, :-1]], dim=1)
        x = self._embed(latents, before, actions, levels)
        then, memory = iter(state.memory), []
        for layer in self.layers:
            if isinstance(layer, SpaceLayer):
                x = layer(x)
            else:
                x, m = layer(x, next(then))
                memory.append(m)
        return self.norm(x), TrunkState(memory=tuple(memory), latent=latents[:, -1])

    def step(
        self, latent: Tensor, action: Tensor, level: Tensor, state: TrunkState
    ) -> tuple[Tensor, TrunkState]:
        """(B, P, C), (B,), (B,), state -> context (B, S, D), next state."""
        x = self._embed(latent, state.latent, action, level)
        then, memory = iter(state.memory), []
        for layer in self.layers:
            if isinstance(layer, SpaceLayer):
                x = layer(x)
            else:
                x, m = layer.step(x, next(then))  # type: ignore[operator]
                memory.append(m)
        return self.norm(x), TrunkState(memory=tuple(memory), latent=latent)

    def _embed(self, latent: Tensor, before: Tensor, action: Tensor, level: Tensor) -> Tensor:
        """(..., P, C) twice, (...), (...) -> (..., S, D)."""
        tokens = self.read(torch.cat([latent, latent - before], dim=-1))
        registers = tokens.new_zeros(*tokens.shape[:-2], self.config.registers, tokens.shape[-1])
        told = self.action(action) + self.level(level[..., None])
        embedded: Tensor = torch.cat([tokens, registers], dim=-2) + self.places
        embedded = embedded + told[..., None, :]
        return embedded
