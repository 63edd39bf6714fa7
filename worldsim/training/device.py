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


def lowered(device: torch.device, precision: torch.dtype) -> torch.autocast:
    """Within, products are computed in `precision`."""
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
