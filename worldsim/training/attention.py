"""Attention with a bias that learns, for training on a CPU: attention.cpp."""

from typing import Any

import torch
from torch import Tensor

from worldsim.dynamics.attention import Fused
from worldsim.training.native import Library


def native_attention(library: Library) -> Fused:
    """Attention with gradients, through the library."""

    def run(qkv: Tensor, bias: Tensor, heads: int) -> Tensor:
        y: Tensor = _Attention.apply(library, qkv, bias, heads)  # type: ignore[no-untyped-call]
        return y

    return run


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, library: Library, qkv: Tensor, bias: Tensor, heads: int) -> Tensor:
        qkv, bias = qkv.detach().contiguous(), bias.detach().float().contiguous()
        n, places, width = qkv.shape
        y = qkv.new_empty(n, places, width // 3)
        ctx.library, ctx.sizes = library, (n, places, heads, width // 3 // heads, len(bias))
        library.call("attention", qkv, bias, y, *ctx.sizes)
        ctx.save_for_backward(qkv, bias)
        return y

    @staticmethod
    def backward(  # type: ignore[override]
        ctx: Any, *gradients: Tensor
    ) -> tuple[None, Tensor, Tensor, None]:
        qkv, bias = ctx.saved_tensors
        of_qkv, of_bias = torch.empty_like(qkv), torch.zeros_like(bias)
        given = gradients[0].to(qkv.dtype).contiguous()
        ctx.library.call("attention_backward", qkv, bias, given, of_qkv, of_bias, *ctx.sizes)
        return None, of_qkv, of_bias, None
