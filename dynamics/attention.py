"""Mixing over the places of one frame.

Every pair of places has a learned bias per head (or, on large grids, every offset between two
tokens), and the action bends it: turning left makes each place look to its right. The bias starts
as a preference for a neighbour, one direction per head, so that the first thing attention can do is
to move the picture.

Shapes: B batch, S places (tokens, then registers), D width, H heads.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldsim.dynamics.config import DynamicsConfig

RANK = 8  # of the way in which an action bends the bias
DIRECTIONS = ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0))


class SpatialAttention(nn.Module):
    offset: Tensor | None

    def __init__(self, config: DynamicsConfig, *, conditioned: bool) -> None:
        super().__init__()
        d = config.width
        self.heads = config.heads
        self.read = nn.Linear(d, 3 * d, bias=False)
        self.write = nn.Linear(d, d, bias=False)
        by_offset = config.bias == "offsets"
        self.bias = nn.Parameter((_offset_bias if by_offset else _neighbour_bias)(config))
        self.bend = nn.Linear(d, RANK) if conditioned else None
        shape = (RANK, *self.bias.shape)
        self.bent = nn.Parameter(0.02 * torch.randn(shape)) if conditioned else None
        self.register_buffer("offset", _offsets(config) if by_offset else None, persistent=False)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """(B, S, D), condition (B, D) or None -> (B, S, D)."""
        b, s, _ = x.shape
        q, k, v = self.read(x).view(b, s, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        bias = self.bias[None]
        if self.bend is not None and self.bent is not None and condition is not None:
            bend: Tensor = self.bend(condition)
            bias = bias + (bend @ self.bent.flatten(1).to(bend.dtype)).view(b, *self.bias.shape)
        if self.offset is not None:
            bias = bias[..., self.offset]
        mix = _mix_for_training if torch.is_grad_enabled() and bias.requires_grad else _mix
        y = mix(q, k, v, bias)
        written: Tensor = self.write(y.transpose(1, 2).flatten(2))
        return written


def _mix(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Queries, keys and values (B, H, S, E), bias (B, H, S, S) or of B = 1 -> (B, H, S, E)."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))


def _mix_for_training(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """`_mix`. Where the bias wants a gradient torch has no fused kernel and falls back to float32
    products with copies on both sides; these take two thirds of its time on a CPU."""
    scores: Tensor = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5 + bias
    return scores.softmax(dim=-1).to(v.dtype) @ v


def _offsets(config: DynamicsConfig) -> Tensor:
    """(S, S): the number of the offset between two tokens; the last one is that of registers."""
    row = torch.arange(config.rows).repeat_interleave(config.columns)
    column = torch.arange(config.columns).repeat(config.rows)
    down = row[None] - row[:, None] + config.rows - 1
    across = column[None] - column[:, None] + config.columns - 1
    number = torch.full((config.num_places, config.num_places), _num_offsets(config) - 1)
    number[: config.num_tokens, : config.num_tokens] = down * (2 * config.columns - 1) + across
    return number


def _num_offsets(config: DynamicsConfig) -> int:
    return (2 * config.rows - 1) * (2 * config.columns - 1) + 1


def _offset_bias(config: DynamicsConfig) -> Tensor:
    """(H, number of offsets): what `_neighbour_bias` is for pairs."""
    down = torch.arange(1 - config.rows, config.rows).float()[:, None]
    across = torch.arange(1 - config.columns, config.columns).float()
    bias = torch.zeros(config.heads, _num_offsets(config))
    for head in range(config.heads):
        wanted = DIRECTIONS[head % len(DIRECTIONS)]
        distance = (down - wanted[0]) ** 2 + (across - wanted[1]) ** 2
        bias[head, :-1] = -distance.clamp(max=6.0).flatten()
    return bias


def _neighbour_bias(config: DynamicsConfig) -> Tensor:
    """(H, S, S): head i leans towards the neighbour in its direction; registers see all alike."""
    row = torch.arange(config.rows).repeat_interleave(config.columns).float()
    column = torch.arange(config.columns).repeat(config.rows).float()
    bias = torch.zeros(config.heads, config.num_places, config.num_places)
    for head in range(config.heads):
        down, right = DIRECTIONS[head % len(DIRECTIONS)]
        distance = (row[None] - row[:, None] - down) ** 2
        distance = distance + (column[None] - column[:, None] - right) ** 2
        bias[head, : config.num_tokens, : config.num_tokens] = -distance.clamp(max=6.0)
    return bias
