"""Latent actions: what was done between two frames, learned from frames alone.

    u = q(z[t-1], z[t], z[t+1])     one of A codes
    z[t+1] ~ p(z[t-1], z[t], u)     the decoder sees only the past and the code, and is thrown away

What a player does moves the whole picture, so the decoder is the head's mover: a code is worth
what it says about how the picture moves, and three bits per frame leave no room for the next frame
itself. (Bruce et al. 2024, "Genie", where both are transformers over pixels.)

Shapes: B batch, P tokens, C channels, S places, D width, A codes, H W picture.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldsim.dynamics.attention import SpatialAttention
from worldsim.dynamics.config import DynamicsConfig
from worldsim.dynamics.head import Head, Move, Moved, with_registers
from worldsim.dynamics.layers import FeedForward

CODE_SIZE = 8  # numbers in which codes are told apart


class Layer(nn.Module):
    def __init__(self, config: DynamicsConfig) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.RMSNorm(config.width) for _ in range(2))
        self.space = SpatialAttention(config, conditioned=False)
        self.feed = FeedForward(config.width, config.expand)

    def forward(self, x: Tensor) -> Tensor:
        """(B, S, D) -> (B, S, D)."""
        x = x + self.space(self.norms[0](x))
        return x + self.feed(self.norms[1](x))  # type: ignore[no-any-return]


class ActionEncoder(nn.Module):
    """Which code leads from one frame to the next. This part ships with the world."""

    def __init__(self, config: DynamicsConfig, layers: int = 2) -> None:
        super().__init__()
        d = config.width
        self.config = config
        self.read = nn.Linear(3 * config.channels, d)
        self.places = nn.Parameter(0.02 * torch.randn(config.num_places, d))
        self.layers = nn.ModuleList(Layer(config) for _ in range(layers))
        self.norm = nn.RMSNorm(d)
        self.point = nn.Linear(d, CODE_SIZE)
        self.codes = nn.Parameter(torch.randn(config.num_actions, CODE_SIZE))

    def forward(self, before: Tensor, latent: Tensor, after: Tensor) -> Tensor:
        """Three latents in a row, (B, P, C) -> closeness to each code, logits (B, A)."""
        x = self.read(torch.cat([latent, latent - before, after - latent], dim=-1))
        x = with_registers(x, self.config) + self.places
        for layer in self.layers:
            x = layer(x)
        points = self.point(self.norm(x).mean(dim=1)).float()
        return -torch.cdist(points, self.codes.float()).square()


class LatentActions(nn.Module):
    """The encoder, and the decoder that teaches it."""

    def __init__(self, config: DynamicsConfig) -> None:
        super().__init__()
        self.encoder = ActionEncoder(config)
        self.places = nn.Parameter(0.02 * torch.randn(config.num_places, config.width))
        self.decoder = Head(replace(config, mover_layers=2))

    def forward(
        self, before: Tensor, latent: Tensor, code: Tensor, move: Move
    ) -> tuple[Tensor, Moved]:
        """Past latents (B, P, C) and the weights of the codes (B, A), one-hot or soft -> the next
        latent, and the moved picture."""
        told = code.to(latent.dtype) @ self.decoder.action.weight[:-1]
        context = self.places.expand(len(latent), -1, -1)
        moved = self.decoder.mover(context, latent, before, told, move)
        clock = latent.new_tensor([0.0, 1.0, 0.0]).expand(len(latent), 3)
        return self.decoder.told(torch.zeros_like(latent), clock, moved, told), moved


def choose(logits: Tensor) -> Tensor:
    """The nearest code as a one-hot (B, A) whose gradient is that of the soft choice."""
    soft = logits.softmax(dim=-1)
    hard = F.one_hot(logits.argmax(dim=-1), logits.shape[-1]).to(soft.dtype)
    return hard + soft - soft.detach()


def usage_loss(logits: Tensor) -> Tensor:
    """Sure about each frame, undecided over all of them: H(code | frame) - H(code), in nats.

    The mutual information of frame and code, negative; without it codes die and stay dead.
    """
    each = logits.softmax(dim=-1)
    whole = each.mean(dim=0)
    entropy = -(each * logits.log_softmax(dim=-1)).sum(dim=-1).mean()
    return entropy + (whole * (whole + 1e-9).log()).sum()
