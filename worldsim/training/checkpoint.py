"""What a checkpoint of a stage holds, and how a stage goes on from it as if nothing had happened.

RUN/checkpoints/STAGE/step-00001234/ holds, next to its manifest (worldsim/training/commit.py):

    model, ema, optimizer   .safetensors   weights, their average, moments
    carried, rng            .safetensors   what passes from update to update; random generators
    data, trainer           .json          where in the footage; step, rates, code version

Of several processes (distributed.py) each has a `carried` and an `rng`: carried-1, ..
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from worldsim import __version__
from worldsim.errors import CheckpointError
from worldsim.training import distributed
from worldsim.training.commit import Parts, clean, commit, newest, read
from worldsim.training.randomness import random_state, set_random_state
from worldsim.training.say import say
from worldsim.training.streams import Streams

FORMAT_VERSION = 1


class Stage(Protocol):
    """One thing to train."""

    name: str
    optimizers: list[torch.optim.Optimizer]
    streams: Streams

    @property
    def model(self) -> nn.Module:
        """What is trained, averaged and saved."""

    def update(self, progress: float) -> dict[str, Tensor]:
        """One optimization step, `progress` of the way (0..1) through; its losses, detached. Call
        it through `loop.update`: what it makes anew is for the device that is the current one."""

    def state_dict(self) -> dict[str, Tensor]:
        """What passes from update to update, beside model, optimizers and streams."""

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state_dict`, from tensors that may be on another device."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """How far a stage has come."""

    step: int = 0  # updates done
    skipped: int = 0  # of them, those that were not finite and changed nothing


def stage_folder(run: Path, stage: Stage) -> Path:
    """Where the checkpoints of `stage` are."""
    return run / "checkpoints" / stage.name


def save_checkpoint(run: Path, stage: Stage, shadow: nn.Module, place: Place) -> Path:
    """Everything that `load_checkpoint` needs to go on from `place`; CheckpointError if the disk
    does not take it."""
    tensors: dict[str, dict[str, Tensor]] = {
        "model": _owned(stage.model.state_dict()),
        "ema": _owned(shadow.state_dict()),
        "optimizer": _owned(moments(stage.optimizers)),
    }
    own = ({k: v.cpu() for k, v in _owned(stage.state_dict()).items()}, random_state())
    for rank, (carried, rng) in enumerate(distributed.all_of(own)):
        tensors |= {_of("carried", rank): carried, _of("rng", rank): rng}
    trainer = {
        "format_version": FORMAT_VERSION,
        "stage": stage.name,
        "step": place.step,
        "skipped": place.skipped,
        "code_version": __version__,
        "torch_version": torch.__version__,
        "world_size": distributed.size(),
        "param_groups": [_settings(optimizer) for optimizer in stage.optimizers],
    }
    notes = {"trainer": trainer, "data": stage.streams.position()}
    folder = stage_folder(run, stage)
    if distributed.rank() == 0:
        return commit(folder, place.step, Parts(tensors, notes))
    return folder


def load_checkpoint(run: Path, stage: Stage, shadow: nn.Module, *, strict: bool = False) -> Place:
    """Fill `stage`, `shadow` and the random generators from the newest checkpoint that holds.

    Raises CheckpointError if none does, if the newest does not and `strict`, or if it was made
    by another configuration.
    """
    with distributed.first_alone():
        clean(stage_folder(run, stage))
    folder = newest(stage_folder(run, stage), strict=strict)
    if folder is None:
        return Place()
    parts = read(folder)
    try:
        trainer = parts.notes["trainer"]
        if trainer["format_version"] != FORMAT_VERSION:
            version = trainer["format_version"]
            raise CheckpointError(
                f"{folder}: format_version is {version}, this worldsim reads {FORMAT_VERSION}"
            )
        _refuse_infinite(folder, {**parts.tensors["model"], **parts.tensors["ema"]})
        stage.model.load_state_dict(parts.tensors["model"])
        shadow.load_state_dict(parts.tensors["ema"])
        load_moments(stage.optimizers, parts.tensors["optimizer"])
        for optimizer, settings in zip(stage.optimizers, trainer["param_groups"], strict=True):
            for group, then in zip(optimizer.param_groups, settings, strict=True):
                group.update(then)
        rank, count = distributed.rank(), int(trainer["world_size"])
        stage.load_state_dict(dict(parts.tensors[_of("carried", rank % count)]))
        if count != distributed.size():
            made = f"{folder}: made by {count} processes, this run has {distributed.size()}"
            say(f"{made}; every lane starts somewhere new, and the curve is another one")
            torch.manual_seed(int(trainer["step"]) * 1009 + rank)
        else:
            if not stage.streams.seek(parts.notes["data"]):
                say(f"{folder}: the footage has changed since; every lane starts somewhere new")
            set_random_state(dict(parts.tensors[_of("rng", rank)]))
        return Place(step=int(trainer["step"]), skipped=int(trainer["skipped"]))
    except (RuntimeError, KeyError, TypeError, ValueError, IndexError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{folder}: made by another configuration: {reason}") from error


def _of(part: str, rank: int) -> str:
    """The file of a part that every process has one of."""
    return f"{part}-{rank}" if rank else part


def is_finite(model: nn.Module) -> bool:
    """Whether every weight is a number."""
    return all(bool(torch.isfinite(p).all()) for p in model.parameters())


def _refuse_infinite(folder: Path, tensors: dict[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise CheckpointError(f"{folder}: {name} holds values that are not finite")


def _owned(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies, since safetensors refuses tensors that share memory."""
    return {k: v.detach().clone().contiguous() for k, v in tensors.items()}


def moments(optimizers: list[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """What optimizers remember: OPTIMIZER.PARAMETER.KEY -> tensor."""
    return {
        f"{i}.{number}.{key}": value
        for i, optimizer in enumerate(optimizers)
        for number, state in optimizer.state_dict()["state"].items()
        for key, value in state.items()
    }


def load_moments(optimizers: list[torch.optim.Optimizer], tensors: Mapping[str, Tensor]) -> None:
    """The inverse of `moments`."""
    for i, optimizer in enumerate(optimizers):
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            owner, number, key = name.split(".", 2)
            if int(owner) == i:
                state.setdefault(int(number), {})[key] = value
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _settings(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """The plain numbers of every parameter group; the rest comes from the code."""
    return [
        {k: v for k, v in group.items() if isinstance(v, (int, float)) or v is None}
        for group in optimizer.param_groups
    ]
