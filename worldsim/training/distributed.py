"""Several processes that train one world: `torchrun --nproc-per-node 2 -m worldsim.cli train`.

Every process has lanes of its own out of one set of streams, and draws random numbers of its own;
gradients are averaged before every step, so that all have the same weights. N processes with L
lanes are one process with N * L lanes, for losses that are means over lanes. The first process
alone writes. What passes between processes of one run is theirs; no file holds a pickle.

In a run of one process nothing here does anything.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


@contextmanager
def processes() -> Iterator[None]:
    """Within, the processes that torchrun started know each other."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    dist.init_process_group("gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def size() -> int:
    """How many processes train."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is; 0 is the one that writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def wait() -> None:
    """Until all are here."""
    if size() > 1:
        dist.barrier()


@contextmanager
def first_alone() -> Iterator[None]:
    """The first process does it, then the others, which find what it left on the disk."""
    if rank() > 0:
        wait()
    yield
    if rank() == 0:
        wait()


def from_first(value: Any) -> Any:
    """What the first process has."""
    if size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]


def all_of(value: Any) -> list[Any]:
    """What each of them has, by rank."""
    if size() == 1:
        return [value]
    boxes: list[Any] = [None] * size()
    dist.all_gather_object(boxes, value)
    return boxes


def mean_of(values: dict[str, float]) -> dict[str, float]:
    """Of losses, over those that have them."""
    every = all_of(values)
    names = dict.fromkeys(name for one in every for name in one)
    found = {name: [one[name] for one in every if name in one] for name in names}
    return {name: sum(seen) / len(seen) for name, seen in found.items()}


def average_gradients(model: nn.Module, loss: Tensor) -> Tensor:
    """Make the gradients of `model` those of the mean loss of all processes, which is returned."""
    if size() == 1:
        return loss
    weights = [p for p in model.parameters() if p.requires_grad]
    used = torch.tensor([p.grad is not None for p in weights], dtype=torch.int32)
    dist.all_reduce(used, dist.ReduceOp.MAX)
    weights = [p for p, is_used in zip(weights, used.tolist(), strict=True) if is_used]
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in weights]
    flat = torch.cat([loss.detach().float().view(1), *(part.flatten().float() for part in parts)])
    flat = flat.cpu()  # gloo's
    dist.all_reduce(flat)
    mean, *shared = (flat / size()).to(loss.device).split([1, *(p.numel() for p in weights)])
    for p, gradient in zip(weights, shared, strict=True):
        p.grad = gradient.view_as(p).to(p.dtype)
    total: Tensor = mean[0]
    return total


@contextmanager
def own_draws(*, are_new: bool) -> Iterator[None]:
    """Within, each process draws other random numbers, unless they do so already; after it, all
    go on as the first one."""
    if rank() > 0 and are_new:
        torch.manual_seed(int(torch.randint(1 << 62, ())) + rank())
    yield
    if size() > 1:
        torch.set_rng_state(from_first(torch.get_rng_state()))
