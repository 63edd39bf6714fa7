"""Where a stage computes: the device of its model, in bfloat16 where that is faster."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from worldsim.tokenizer import to_pixels


def device_of(model: nn.Module) -> torch.device:
    """Where the weights of `model` are; the CPU, if it has none."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


@contextmanager
def computing(device: torch.device) -> Iterator[None]:
    """Within, what is made new is made on `device`: random numbers, masks, zeros."""
    # asking for the processor costs time in every single call of torch, and changes nothing
    with nullcontext() if device.type == "cpu" else device:
        yield


def precision_of(device: torch.device) -> torch.dtype:
    """What products are computed in on `device`: bfloat16 where there are instructions for it. A
    processor without them would emulate it, several times slower than float32 (docs/log.md)."""
    if device.type != "cpu":
        return torch.bfloat16
    # not in every torch from 2.10 on
    able: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return torch.bfloat16 if able.get("avx512_bf16") or able.get("amx_bf16") else torch.float32


def lowered(device: torch.device, precision: torch.dtype | None = None) -> torch.autocast:
    """Within, products are computed in `precision`, or in `precision_of(device)`."""
    precision = precision or precision_of(device)
    is_lower = precision != torch.float32
    return torch.autocast(device.type, precision if is_lower else torch.bfloat16, enabled=is_lower)


def fetch(array: npt.NDArray[np.generic], device: torch.device) -> Tensor:
    """An array as a tensor on `device`."""
    return torch.from_numpy(np.asarray(array)).to(device)


def fetch_pixels(array: npt.NDArray[np.generic], device: torch.device) -> Tensor:
    """Frames uint8 (..., H, W, 3) as pixels (..., 3, H, W) in [-1, 1] on `device`, in that order in
    memory, too: what comes after is several times as fast."""
    frames = fetch(array, device).movedim(-1, -3).contiguous()
    return to_pixels(frames.movedim(-3, -1))
