"""Mixing over the places of one frame.

Every pair of places has a learned bias per head, and the action bends it: turning left makes each
place look to its right. The bias starts as a preference for a neighbour, one direction per head,
so that the first thing attention can do is to move the picture.

Shapes: B batch, S places (tokens, then registers), D width, H heads.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldsim.dynamics.config import DynamicsConfig

RANK = 8  # of the way in which an action bends the bias
DIRECTIONS = ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0))


class SpatialAttention(nn.Module):
    def __init__(self, config: DynamicsConfig, *, conditioned: bool) -> None:
        super().__init__()
        d, s = config.width, config.num_places
        self.heads = config.heads
        self.read = nn.Linear(d, 3 * d, bias=False)
        self.write = nn.Linear(d, d, bias=False)
        self.bias = nn.Parameter(_neighbour_bias(config))
        self.bend = nn.Linear(d, RANK) if conditioned else None
        shape = (RANK, config.heads, s, s)
        self.bent = nn.Parameter(0.02 * torch.randn(shape)) if conditioned else None

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """(B, S, D), condition (B, D) or None -> (B, S, D)."""
        b, s, _ = x.shape
        q, k, v = self.read(x).view(b, s, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        bias = self.bias[None]
        if self.bend is not None and self.bent is not None and condition is not None:
            bend: Tensor = self.bend(condition)
            bias = bias + (bend @ self.bent.flatten(1).to(bend.dtype)).view(b, *self.bias.shape)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        written: Tensor = self.write(y.transpose(1, 2).flatten(2))
        return written


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
