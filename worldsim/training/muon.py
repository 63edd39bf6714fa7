"""Muon (Jordan et al. 2024) in the precision that suits the processor.

torch's makes each update orthogonal in bfloat16. A processor that has no instructions for it
emulates them, which was a fifth of an update and more (docs/log.md); here, those few products are
in float32 then.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import _muon

from worldsim.training.device import precision_of


class Muon(torch.optim.Muon):
    """As torch's, but for rounding."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        device = self.param_groups[0]["params"][0].device
        if precision_of(device) == torch.bfloat16:
            return super().step(closure)  # type: ignore[no-untyped-call]
        theirs = _muon._zeropower_via_newtonschulz
        _muon._zeropower_via_newtonschulz = orthogonal  # type: ignore[assignment]
        try:
            return super().step(closure)  # type: ignore[no-untyped-call]
        finally:
            _muon._zeropower_via_newtonschulz = theirs


def orthogonal(
    matrix: Tensor, coefficients: tuple[float, float, float], steps: int, epsilon: float
) -> Tensor:
    """(M, N) with all singular values near 1, by Newton-Schulz iteration: what torch's Muon
    computes, in the precision of `matrix`."""
    a, b, c = coefficients
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / x.norm().clamp(min=epsilon)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if matrix.shape[0] > matrix.shape[1] else x
