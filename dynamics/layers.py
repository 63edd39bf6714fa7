"""A part that the trunk and the head share."""

from torch import Tensor, nn
from torch.nn import functional as F


class FeedForward(nn.Module):
    """(..., D) -> (..., D)."""

    def __init__(self, width: int, expand: int) -> None:
        super().__init__()
        self.widen = nn.Linear(width, expand * width)
        self.narrow = nn.Linear(expand * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.narrow(F.silu(self.widen(x)))  # type: ignore[no-any-return]
