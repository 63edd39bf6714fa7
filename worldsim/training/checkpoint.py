"""Checkpoints of a training stage: one safetensors file, written beside and renamed, no pickle."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from worldsim.errors import CheckpointError

if TYPE_CHECKING:
    from worldsim.training.loop import Stage


def save_checkpoint(path: Path, stage: "Stage", shadow: nn.Module, step: int) -> None:
    """Everything that `load_checkpoint` needs to go on from `step`; the rename is the commit."""
    tensors = {f"shadow.{k}": v for k, v in shadow.state_dict().items()}
    tensors |= {f"model.{k}": v for k, v in stage.model.state_dict().items()}
    for i, optimizer in enumerate(stage.optimizers):
        for number, state in optimizer.state_dict()["state"].items():
            tensors |= {
                f"optimizer.{i}.{number}.{key}": value
                for key, value in state.items()
                if isinstance(value, Tensor)
            }
    draft = path.with_name(f".{path.name}.tmp")
    owned = {k: v.detach().clone().contiguous() for k, v in tensors.items()}
    save_file(owned, draft, metadata={"stage": stage.name, "step": str(step)})
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.rename(path)


def load_checkpoint(path: Path, stage: "Stage", shadow: nn.Module) -> int:
    """Fill `stage` and `shadow` from `path`; returns the step to go on from."""
    try:
        with safe_open(path, framework="pt") as file:
            step = int(file.metadata()["step"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: {error}; delete it to start this stage again") from error
    try:
        shadow.load_state_dict(_under(tensors, "shadow."))
        stage.model.load_state_dict(_under(tensors, "model."))
    except RuntimeError as error:
        raise CheckpointError(f"{path}: made by another configuration: {error}") from error
    for i, optimizer in enumerate(stage.optimizers):
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in _under(tensors, f"optimizer.{i}.").items():
            number, name = key.split(".", 1)
            state.setdefault(int(number), {})[name] = value
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return step


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def load_weights(path: Path, model: nn.Module, prefix: str) -> None:
    """Fill `model` with the tensors of `path` whose names begin with `prefix`."""
    with safe_open(path, framework="pt") as file:
        names = [k for k in file.keys() if k.startswith(prefix)]  # noqa: SIM118
        weights = {k.removeprefix(prefix): file.get_tensor(k).to(torch.float32) for k in names}
    model.load_state_dict(weights)
