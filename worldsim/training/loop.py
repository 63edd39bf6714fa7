"""The training loop that every stage shares: plan, progress, metrics, average, checkpoints, Ctrl-C.

A stage owns its model, its data and its optimizers and makes one update at a time; the loop does
the rest. The number of steps is fixed before the first one, so that the learning rate ends where
it should.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from worldsim.training.checkpoint import load_checkpoint, save_checkpoint

AVERAGE_DECAY = 0.999
CHECKPOINT_EVERY = 300.0  # seconds
METRICS_EVERY = 20  # steps


class Stage(Protocol):
    """One thing to train."""

    name: str
    optimizers: list[torch.optim.Optimizer]

    @property
    def model(self) -> nn.Module:
        """What is trained, averaged and saved."""

    def update(self, progress: float) -> dict[str, Tensor]:
        """One optimization step, `progress` of the way (0..1) through; its losses, detached."""


def schedule(progress: float, *, warmup: float = 0.02, decay: float = 0.4) -> float:
    """Share of the peak learning rate: up, flat, then down in a straight line to 2 %.

    Flat rather than cosine, so that a run continued with --init meets the same rate again.
    """
    if progress < warmup:
        return max(progress / warmup, 0.02)
    return 1.0 if progress < 1 - decay else max((1 - progress) / decay, 0.02)


Tensors = tuple[Tensor, ...] | list[Tensor]


def average(averaged: Tensors, current: Tensors, count: Tensor | int) -> None:
    """Exponential moving average whose memory grows with the run, up to AVERAGE_DECAY."""
    decay = min(AVERAGE_DECAY, (1 + int(count)) / (10 + int(count)))
    torch._foreach_lerp_(averaged, current, 1 - decay)


def fit(stage: Stage, *, steps: int, run: Path, resume: bool = False) -> nn.Module:
    """Train `stage` for `steps` updates and return the averaged model.

    Writes RUN/metrics.jsonl and RUN/<stage>.safetensors. A Ctrl-C finishes the update, saves and
    raises KeyboardInterrupt; `resume` goes on from the saved update.
    """
    shadow = AveragedModel(stage.model, multi_avg_fn=average, use_buffers=False)
    path = run / f"{stage.name}.checkpoint.safetensors"
    first = load_checkpoint(path, stage, shadow) if resume and path.exists() else 0
    last_saved = time.monotonic()
    with _Bar(stage.name, steps, first) as show, (run / "metrics.jsonl").open("a") as log:
        step = first
        try:
            for step in range(first, steps):
                _set_rates(stage, schedule(step / steps))
                metrics = stage.update(step / steps)
                shadow.update_parameters(stage.model)
                if step % METRICS_EVERY == 0 or step == steps - 1:
                    values = {k: round(float(v), 6) for k, v in metrics.items()}
                    _check_finite(values, stage.name, step)
                    line = {"stage": stage.name, "step": step, "seconds": time.time(), **values}
                    log.write(json.dumps(line) + "\n")
                    log.flush()
                    show(step, values)
                if time.monotonic() - last_saved > CHECKPOINT_EVERY:
                    save_checkpoint(path, stage, shadow, step + 1)
                    last_saved = time.monotonic()
        except KeyboardInterrupt:
            save_checkpoint(path, stage, shadow, step)
            raise
    save_checkpoint(path, stage, shadow, steps)
    return shadow.module


def matrix_optimizers(
    model: nn.Module, rate: float, *, inside: tuple[str, ...]
) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) for the matrices whose names hold one of `inside`, AdamW for the
    rest: on this project's small models it needs about half of AdamW's updates."""
    named = list(model.named_parameters())
    matrices = [p for n, p in named if p.ndim == 2 and any(part in n for part in inside)]
    chosen = {id(p) for p in matrices}
    rest = [p for _, p in named if id(p) not in chosen]
    return [
        torch.optim.Muon(matrices, rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def take_step(optimizers: list[torch.optim.Optimizer], loss: Tensor, model: nn.Module) -> None:
    """One update of `model` against `loss`, its gradient at most of length 1."""
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()


def measure_rate(stage: Stage, *, updates: int = 6) -> float:
    """Updates per second of this machine, from a few real ones; the first two warm up."""
    for _ in range(2):
        stage.update(0.0)
    start = time.perf_counter()
    for _ in range(updates):
        stage.update(0.0)
    return updates / (time.perf_counter() - start)


def _set_rates(stage: Stage, share: float) -> None:
    for optimizer in stage.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = share * group.setdefault("peak_lr", group["lr"])


def _check_finite(values: dict[str, float], name: str, step: int) -> None:
    for key, value in values.items():
        if value != value or abs(value) == float("inf"):
            raise FloatingPointError(f"{name}: {key} is {value} at step {step}")


class _Bar:
    """A progress bar on a terminal, a plain line now and then elsewhere."""

    def __init__(self, name: str, steps: int, first: int) -> None:
        self._console = Console(stderr=True)
        self._name, self._steps, self._shown = name, steps, 0.0
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._progress = Progress(*columns, console=self._console)
        self._task = self._progress.add_task(name, total=steps, completed=first, note="")

    def __enter__(self) -> Callable[[int, dict[str, float]], None]:
        if self._console.is_terminal:
            self._progress.start()
        return self._show

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._progress.stop()

    def _show(self, step: int, values: dict[str, float]) -> None:
        note = "  ".join(f"{k} {v:.4g}" for k, v in values.items())
        self._progress.update(self._task, completed=step + 1, note=note)
        if not self._console.is_terminal and time.monotonic() - self._shown > 30:
            self._shown = time.monotonic()
            self._console.print(f"{self._name} {step + 1}/{self._steps}  {note}", soft_wrap=True)
