"""The memory's recurrence over a chunk, for training on a CPU: scan.cpp."""

from typing import Any

import torch
from torch import Tensor

from worldsim.dynamics.ssm import Scan
from worldsim.training.native import Library

WIDE = 16  # what the size of a state is a multiple of


def native_scan(library: Library) -> Scan:
    """`worldsim.dynamics.ssm.scan`, through the library."""

    def run(
        x: Tensor, b: Tensor, c: Tensor, dt: Tensor, a: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        y, after = _Scan.apply(library, x, b, c, dt, a, state)  # type: ignore[no-untyped-call]
        return y, after

    return run


class _Scan(torch.autograd.Function):
    """The state that comes in gets no gradient: it is carried over from an earlier update."""

    @staticmethod
    def forward(ctx: Any, library: Library, *given: Tensor) -> tuple[Tensor, Tensor]:
        inputs = [x.detach().float().contiguous() for x in given]
        x, state = inputs[0], inputs[-1]
        y, after = torch.empty_like(x), torch.empty_like(state)
        ctx.library, ctx.sizes = library, (*x.shape, state.shape[-1])
        library.call("scan", *inputs, y, after, *ctx.sizes)
        ctx.save_for_backward(*inputs)
        return y, after

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, b, c, dt, a, state = ctx.saved_tensors
        made = torch.empty_like(x), *map(torch.zeros_like, (b, c)), torch.empty_like(dt)
        found = (*made, torch.zeros_like(a))
        given = [g.float().contiguous() for g in gradients]
        inputs = (x, b, c, dt, a, state)
        ctx.library.call("scan_backward", *inputs, *given, *found, *ctx.sizes)
        return None, *found, None
