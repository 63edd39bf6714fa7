"""The head: from context and action to the next latent. Only this and the decoder are late.

x-prediction: whatever the noise, the head says what the next latent will be. It starts as a copy
of the last latent and learns what the action changes.

Shapes: B batch, P tokens, C channels, S places (tokens, then registers), D width.
"""

import torch
from torch import Tensor, nn

from worldsim.dynamics.attention import SpatialAttention
from worldsim.dynamics.config import DynamicsConfig
from worldsim.dynamics.layers import FeedForward


class HeadLayer(nn.Module):
    def __init__(self, config: DynamicsConfig) -> None:
        super().__init__()
        d = config.width
        self.norms = nn.ModuleList(nn.RMSNorm(d, elementwise_affine=False) for _ in range(2))
        self.space = SpatialAttention(config, conditioned=True)
        self.feed = FeedForward(d, config.expand)
        self.condition = nn.Linear(d, 6 * d)
        nn.init.zeros_(self.condition.weight)
        with torch.no_grad():
            bias = torch.zeros(6, d)
            bias[[0, 3]] = 1.0  # scales
            bias[[2, 5]] = 1.0  # gates
            self.condition.bias.copy_(bias.flatten())

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B, S, D), (B, D) -> (B, S, D)."""
        scale, shift, gate, scale2, shift2, gate2 = self.condition(condition)[:, None].chunk(6, -1)
        x = x + gate * self.space(self.norms[0](x) * scale + shift, condition)
        return x + gate2 * self.feed(self.norms[1](x) * scale2 + shift2)  # type: ignore[no-any-return]


class Head(nn.Module):
    def __init__(self, config: DynamicsConfig) -> None:
        super().__init__()
        d = config.width
        self.config = config
        self.read = nn.Linear(3 * config.channels, d)
        self.context = nn.Linear(d, d)
        self.action = nn.Embedding(config.num_actions + 1, d)
        self.clock = nn.Sequential(nn.Linear(3, d), nn.SiLU(), nn.Linear(d, d))
        self.layers = nn.ModuleList(HeadLayer(config) for _ in range(config.head_layers))
        self.norm = nn.RMSNorm(d, elementwise_affine=False)
        self.write = nn.Linear(d, config.channels)
        nn.init.zeros_(self.write.weight)
        nn.init.zeros_(self.write.bias)

    def forward(
        self,
        noisy: Tensor,
        clock: Tensor,
        context: Tensor,
        latent: Tensor,
        before: Tensor,
        action: Tensor,
    ) -> Tensor:
        """Predict the next latent.

        noisy (B, P, C), the next latent on its way from noise; clock (B, 3): how far it is (0..1),
        the step that is to be taken from there, the noise level of the context; context
        (B, S, D) from the trunk; latent and before (B, P, C), the last two; action (B,)
        -> (B, P, C).
        """
        x = self.read(torch.cat([noisy, latent, latent - before], dim=-1))
        registers = x.new_zeros(len(x), self.config.registers, x.shape[-1])
        x = torch.cat([x, registers], dim=1) + self.context(context)
        condition = self.action(action) + self.clock(clock)
        for layer in self.layers:
            x = layer(x, condition)
        change = self.write(self.norm(x[:, : self.config.num_tokens]))
        return latent + change
