"""The head: from context and action to the next latent. Only this and the decoder are late.

First the picture is moved as the action says (`move`, once per tick), then the next latent is
predicted from what that looks like, in one or several flow steps (`forward`). x-prediction:
whatever the noise, the head says what the next latent will be.

Shapes: B batch, P tokens, C channels, S places (tokens, then registers), D width.
"""

from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor, nn

from worldsim.dynamics.attention import SpatialAttention
from worldsim.dynamics.config import DynamicsConfig
from worldsim.dynamics.layers import FeedForward

FLOW_CELLS = 4  # per token side
# a flow (B, 2, rows * FLOW_CELLS, columns * FLOW_CELLS) in pixels -> the last picture, moved by it;
# pictures are the tokenizer's business, so the caller brings them
Carry = Callable[[Tensor], Tensor]


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


class Mover(nn.Module):
    """Says how the action moves the picture, and reads the picture so moved.

    Most of the next frame is this frame, shifted by a fraction of a token. In latents a shift is
    hard to compute and easy in pixels: so it is done there, and the moved picture is read as
    patches. What is left to the head is what was not there to be moved.
    """

    def __init__(self, config: DynamicsConfig) -> None:
        super().__init__()
        d = config.width
        self.config = config
        self.read = nn.Linear(2 * config.channels, d)
        self.context = nn.Linear(d, d)
        self.layers = nn.ModuleList(HeadLayer(config) for _ in range(config.mover_layers))
        self.norm = nn.RMSNorm(d, elementwise_affine=False)
        self.flow = nn.Linear(d, 2 * FLOW_CELLS**2)
        self.look = nn.Linear(3 * config.patch**2, d)
        nn.init.zeros_(self.flow.weight)
        nn.init.zeros_(self.flow.bias)

    def forward(
        self, context: Tensor, latent: Tensor, before: Tensor, condition: Tensor, carry: Carry
    ) -> tuple[Tensor, Tensor]:
        """(B, S, D), (B, P, C) twice, (B, D) -> features (B, S, D) and the moved picture
        (B, 3, H, W)."""
        c = self.config
        x = self.read(torch.cat([latent, latent - before], dim=-1))
        x = _with_registers(x, c) + self.context(context)
        for layer in self.layers:
            x = layer(x, condition)
        flow = self.flow(self.norm(x[:, : c.num_tokens])).float()
        flow = c.max_flow * torch.tanh(flow / c.max_flow)
        flow = rearrange(
            flow, "b (h w) (c y x) -> b c (h y) (w x)", h=c.rows, c=2, y=FLOW_CELLS, x=FLOW_CELLS
        )
        moved = carry(flow)
        patches = rearrange(moved, "b c (h y) (w x) -> b (h w) (c y x)", y=c.patch, x=c.patch)
        return x + _with_registers(self.look(patches), c), moved


class Head(nn.Module):
    def __init__(self, config: DynamicsConfig) -> None:
        super().__init__()
        d = config.width
        self.config = config
        self.mover = Mover(config)
        self.read = nn.Linear(config.channels, d)
        self.action = nn.Embedding(config.num_actions + 1, d)
        self.clock = nn.Sequential(nn.Linear(3, d), nn.SiLU(), nn.Linear(d, d))
        self.layers = nn.ModuleList(HeadLayer(config) for _ in range(config.head_layers))
        self.norm = nn.RMSNorm(d, elementwise_affine=False)
        self.write = nn.Linear(d, config.channels)
        nn.init.zeros_(self.write.weight)
        nn.init.zeros_(self.write.bias)

    def move(
        self, context: Tensor, latent: Tensor, before: Tensor, action: Tensor, carry: Carry
    ) -> tuple[Tensor, Tensor]:
        """What is known before any noise: once per tick, whatever the number of flow steps.

        context (B, S, D) from the trunk; latent and before (B, P, C), the last two; action (B,)
        -> features (B, S, D), the moved picture (B, 3, H, W).
        """
        return self.mover(context, latent, before, self.action(action), carry)  # type: ignore[no-any-return]

    def forward(self, noisy: Tensor, clock: Tensor, features: Tensor, action: Tensor) -> Tensor:
        """Predict the next latent.

        noisy (B, P, C), the next latent on its way from noise; clock (B, 3): how far it is (0..1),
        the step that is to be taken from there, the noise level of the context; features
        (B, S, D) from `move`; action (B,) -> (B, P, C).
        """
        x = _with_registers(self.read(noisy), self.config) + features
        condition = self.action(action) + self.clock(clock)
        for layer in self.layers:
            x = layer(x, condition)
        latent: Tensor = self.write(self.norm(x[:, : self.config.num_tokens]))
        return latent


def _with_registers(tokens: Tensor, config: DynamicsConfig) -> Tensor:
    """(B, P, D) -> (B, S, D): zeros for the places that are not on the screen."""
    empty = tokens.new_zeros(len(tokens), config.registers, tokens.shape[-1])
    return torch.cat([tokens, empty], dim=1)
