"""What was done in a tick, as the networks are told it: a code, or a vector with a float per axis.

    code  ->  a row of a table, and one more row for "unknown"
    axes  ->  W (axes / scale) + b, and a vector of its own for "unknown", which is NaN

Shapes: A axes, D width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class AxesEmbedding(nn.Module):
    """(..., A) floats -> (..., D). A row with a NaN in it is an action that nobody knows."""

    scale: Tensor

    def __init__(self, scale: Sequence[float], width: int) -> None:
        """`scale`: what counts as one on each axis."""
        super().__init__()
        self.axes = nn.Linear(len(scale), width)
        nn.init.normal_(self.axes.weight)  # as large as the rows of a table of codes
        self.unknown = nn.Parameter(torch.randn(width))
        self.register_buffer("scale", torch.tensor(scale), persistent=False)

    def forward(self, action: Tensor) -> Tensor:
        known = ~action.isnan().any(dim=-1, keepdim=True)
        told: Tensor = self.axes(torch.where(known, action, 0.0) / self.scale)
        return torch.where(known, told, self.unknown)


def embed_actions(num_actions: int, axes: Sequence[float], width: int) -> nn.Module:
    """The embedding of one of `num_actions` codes, or of `axes` if there are any."""
    # one row more than there are actions: "unknown", for context without a record of keys
    return AxesEmbedding(axes, width) if axes else nn.Embedding(num_actions + 1, width)


def unknown_action(num_actions: int, axes: Sequence[float]) -> float:
    """What stands for the action of a tick that nobody recorded: a code, or NaN on every axis."""
    return float("nan") if axes else num_actions


def told_actions(actions: Tensor, num_actions: int, axes: Sequence[float]) -> Tensor:
    """Actions as recorded, ints (...) with -1 for unknown or floats (..., A) with NaN, as the
    embedding takes them; a tensor of its own."""
    if axes:
        return actions.float().clone()
    actions = actions.long()
    return torch.where(actions < 0, num_actions, actions)
