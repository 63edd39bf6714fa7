"""Several processes that train one world: `torchrun --nproc-per-node 2 -m worldsim.cli train`.

Every process has lanes of its own out of one set of streams, and draws random numbers of its own;
gradients are averaged before every step, so that all have the same weights. N processes with L
lanes are one process with N * L lanes, for losses that are means over lanes. The first process
alone writes. What passes between them is msgpack, with tensors as safetensors: never pickle.

In a run of one process nothing here does anything.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import torch
import torch.distributed as dist
from safetensors.torch import load, save
from torch import Tensor, nn

from worldsim.errors import TrainingError

TENSOR = 1  # code of the msgpack extension


@contextmanager
def processes() -> Iterator[None]:
    """Within, the processes that torchrun started know each other. TrainingError when one is gone:
    the others cannot go on without its gradients."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    dist.init_process_group("gloo")
    try:
        yield
    except RuntimeError as error:
        if "gloo" not in str(error):
            raise
        raise TrainingError(
            "another process of this run has ended; --resume goes on from the last checkpoint"
        ) from error
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
    """What the first process has: of plain values, lists, dicts and tensors."""
    return all_of(value)[0]


def all_of(value: Any) -> list[Any]:
    """What each of them has, by rank."""
    if size() == 1:
        return [value]
    own = torch.frombuffer(bytearray(_packed(value)), dtype=torch.uint8)
    lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(size())]
    dist.all_gather(lengths, torch.tensor([len(own)]))
    longest = max(int(length) for length in lengths)
    boxes = [torch.zeros(longest, dtype=torch.uint8) for _ in range(size())]
    dist.all_gather(boxes, torch.cat([own, own.new_zeros(longest - len(own))]))
    packed = zip(boxes, lengths, strict=True)
    return [_unpacked(box[: int(length)].numpy().tobytes()) for box, length in packed]


def _packed(value: Any) -> bytes:
    def as_bytes(thing: object) -> msgspec.msgpack.Ext:
        if isinstance(thing, Tensor):
            return msgspec.msgpack.Ext(TENSOR, save({"it": thing.cpu().contiguous()}))
        raise NotImplementedError(f"{type(thing).__name__} does not go to other processes")

    return msgspec.msgpack.encode(value, enc_hook=as_bytes)


def _unpacked(packed: bytes) -> Any:
    return msgspec.msgpack.decode(packed, ext_hook=lambda _, data: load(bytes(data))["it"])


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
