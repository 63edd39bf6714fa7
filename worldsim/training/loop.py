"""The training loop that every stage shares: rates, average, metrics, checkpoints, interruptions.

A stage owns its model, its data and its optimizers and makes one update at a time; the loop does
the rest. The number of steps is fixed before the first one, so that the learning rate ends where
it should. An update whose gradient is not finite changes nothing and is counted; too many in a row
end the run, whose last good checkpoint stays.
"""

import json
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from worldsim.errors import CheckpointError, TrainingError
from worldsim.training import distributed
from worldsim.training.bar import Bar
from worldsim.training.checkpoint import (
    Place,
    Stage,
    is_finite,
    load_checkpoint,
    save_checkpoint,
)
from worldsim.training.device import computing, device_of
from worldsim.training.interrupt import Interrupt
from worldsim.training.metrics import Metrics, finite
from worldsim.training.muon import Muon
from worldsim.training.pace import Pace
from worldsim.training.say import say
from worldsim.training.trackers import Tracker

AVERAGE_DECAY = 0.999
METRICS_EVERY = 20  # steps
MAX_SKIPPED = 10  # updates in a row that may not be finite
TRIED = (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)  # of the way: later updates do more
DIAGNOSTICS = "diagnostics.json"


class NotFiniteError(ArithmeticError):
    """An update would have made the model worse than useless; nothing was changed."""


@dataclass(frozen=True, kw_only=True)
class Care:
    """How a run is looked after."""

    resume: bool = False  # go on from the newest checkpoint that holds
    strict: bool = False  # but not if a newer one is damaged
    checkpoint_every: float = 300.0  # seconds; 0 is after every update
    watch_every: float = 180.0  # seconds
    tracker: Tracker | None = None  # who is told what metrics.jsonl is told


Watch = Callable[[nn.Module, int], None]  # the averaged model, updates done


def fit(
    stage: Stage, *, steps: int, run: Path, care: Care = Care(), watch: Watch | None = None
) -> nn.Module:
    """Train `stage` for `steps` updates and return the averaged model.

    Writes RUN/metrics.jsonl and RUN/checkpoints. The first Ctrl-C or SIGTERM finishes the update,
    saves and raises KeyboardInterrupt; the second raises it at once; SIGUSR1 saves. Raises
    TrainingError after MAX_SKIPPED updates in a row that are not finite, CheckpointError if a
    checkpoint cannot be used or the last one cannot be written.
    """
    shadow = AveragedModel(stage.model, multi_avg_fn=average, use_buffers=False)
    distributed.wait()
    place = load_checkpoint(run, stage, shadow, strict=care.strict) if care.resume else Place()
    first, in_a_row, values = place.step, 0, dict[str, float]()
    last: deque[dict[str, float | None]] = deque(maxlen=20)
    saved = watched = time.monotonic()
    pace = Pace(stage.model, stage.streams.frames)
    with (
        distributed.own_draws(are_new=first == 0),
        Interrupt() as interrupt,
        Bar(stage.name, steps, first) as bar,
        Metrics(run, stage.name, first) as metrics,
    ):
        for step in range(first, steps):
            _set_rates(stage, schedule(step / steps))
            try:
                done = pace.run(step, partial(update, stage, step / steps))
                values = {k: float(v) for k, v in done.items()}
                shadow.update_parameters(stage.model)
                in_a_row = 0
            except NotFiniteError as error:
                _drop_what_is_not_finite(stage)
                place, in_a_row = replace(place, skipped=place.skipped + 1), in_a_row + 1
                values = {"skipped": place.skipped}
                say(f"{stage.name}: update {step} is left out: {error}")
            place = replace(place, step=step + 1)
            last.append({"step": step, **finite(values)})
            if step % METRICS_EVERY == 0 or place.step == steps:
                values = distributed.mean_of(values)
                metrics.write(step, values)
                if care.tracker is not None:
                    care.tracker.log(stage.name, step, values)
                bar.show(step, values, str(pace))
            if in_a_row == MAX_SKIPPED:
                _give_up(run, stage, place, list(last), f"{in_a_row} updates up to {step} are not")
            if in_a_row == 0 and not is_finite(stage.model):
                _give_up(run, stage, place, list(last), f"the weights of update {step} are not")
            now = time.monotonic()
            due = now - saved >= care.checkpoint_every or interrupt.wants_save
            due = any(distributed.all_of(due and in_a_row == 0))
            asked = any(distributed.all_of(interrupt.asked))
            if asked or place.step == steps or due:
                interrupt.wants_save = False  # before saving: who asks meanwhile is heard
                metrics.sync()
                must = asked or place.step == steps
                _save(run, stage, shadow, place, must=must)
                saved = time.monotonic()
            if asked:
                raise KeyboardInterrupt
            if (
                watch is not None
                and distributed.rank() == 0
                and (now - watched >= care.watch_every or place.step == steps)
            ):
                watch(shadow.module, place.step)
                watched = time.monotonic()
    return shadow.module


def update(stage: Stage, progress: float) -> dict[str, Tensor]:
    """One update of `stage`, what it makes anew being made where its model is."""
    with computing(device_of(stage.model)):
        return stage.update(progress)


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


def matrix_optimizers(
    model: nn.Module, rate: float, *, inside: tuple[str, ...]
) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) for the matrices whose names hold one of `inside`, AdamW for the
    rest: on this project's small models it needs about half of AdamW's updates."""
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    matrices = [p for n, p in named if p.ndim == 2 and any(part in n for part in inside)]
    chosen = {id(p) for p in matrices}
    rest = [p for _, p in named if id(p) not in chosen]
    return [
        Muon(matrices, rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def take_step(optimizers: list[torch.optim.Optimizer], loss: Tensor, model: nn.Module) -> None:
    """One update of `model` against `loss`, its gradient at most of length 1.

    Raises NotFiniteError, and changes nothing, if loss or gradient are not finite.
    """
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss.backward()
    loss = distributed.average_gradients(model, loss)
    length = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    if not torch.isfinite(loss) or not torch.isfinite(length):
        raise NotFiniteError(f"loss {loss.item():.4g}, gradient of length {length.item():.4g}")
    for optimizer in optimizers:
        optimizer.step()


def measure_rate(stage: Stage) -> float:
    """Updates per second of this machine, from a few real ones; the first two warm up."""
    for _ in range(2):
        update(stage, 0.0)
    start = time.perf_counter()
    for progress in TRIED:
        update(stage, progress)
    return len(TRIED) / (time.perf_counter() - start)


def _set_rates(stage: Stage, share: float) -> None:
    for optimizer in stage.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = share * group.setdefault("peak_lr", group["lr"])


def _drop_what_is_not_finite(stage: Stage) -> None:
    """What was carried out of a bad update would spoil the next one."""
    stage.load_state_dict(
        {
            name: torch.nan_to_num(value, 0.0, 0.0, 0.0) if value.is_floating_point() else value
            for name, value in stage.state_dict().items()
        }
    )


def _save(run: Path, stage: Stage, shadow: nn.Module, place: Place, *, must: bool) -> None:
    """A checkpoint that fails on the way is tried again at the next one; the last one `must` be."""
    try:
        save_checkpoint(run, stage, shadow, place)
    except CheckpointError as error:
        if must:
            raise
        say(f"{error}; training goes on, and tries again later")


def _give_up(run: Path, stage: Stage, place: Place, last: list[Any], what: str) -> None:
    bad = [n for n, p in stage.model.named_parameters() if not torch.isfinite(p).all()]
    report = {
        "stage": stage.name,
        "step": place.step,
        "skipped": place.skipped,
        "weights_not_finite": bad,
        "rates": [g["lr"] for o in stage.optimizers for g in o.param_groups],
        "footage": stage.streams.position(),
        "last": last,
    }
    (run / DIAGNOSTICS).write_text(json.dumps(report, indent=1) + "\n")
    raise TrainingError(
        f"{stage.name}: {what} finite; see {run / DIAGNOSTICS}. "
        "The last good checkpoint is kept, --resume goes on from it"
    )
