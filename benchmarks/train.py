"""How fast does the dynamics learn, and is it still the same learning?

Updates of the stage that `worldsim train` runs, and of a plain loop in float32 (reference.py), in
turn, from the same weights, on the same real footage, with the same random numbers. `peak_share`
is the share of the device's measured matrix products, in the precision that is trained in, that
the update's own products come to; `input_share` is the time that an update waits for its data. Run
it with `worldsim bench train --data RECORDINGS`.
"""

import copy
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from worldsim.benchmarks.reference import plain_stage, plainly
from worldsim.benchmarks.timing import BLOCK, environment, percentiles, ratio_of_medians
from worldsim.floors import measure_floors
from worldsim.folder import find_world, read_config
from worldsim.training.begin import begin_model, prepare_footage
from worldsim.training.checkpoint import Stage
from worldsim.training.device import precision_of
from worldsim.training.dynamics_stage import DynamicsStage
from worldsim.training.latents import encode_footage
from worldsim.training.loop import update
from worldsim.training.presets import PRESETS, Preset
from worldsim.training.streams import Chunk, Streams

PROGRESS = 0.5  # of the way: some lanes run free, the critic judges
WARMUP, LEAST = 2, 3  # updates of each


class Timed:
    """Streams that keep how long each chunk took, s."""

    def __init__(self, streams: Any) -> None:
        self._streams = streams
        self.seconds: list[float] = []

    def next(self) -> Chunk:
        """The next chunk."""
        begun = time.perf_counter()
        chunk: Chunk = self._streams.next()
        self.seconds.append(time.perf_counter() - begun)
        return chunk


def measure_training(
    world: str,
    data: Path,
    *,
    seconds: float,
    device: str = "cpu",
    preset: Preset = PRESETS["default"],
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, object]:
    """Train throw-away copies of `world` on `data` for about `seconds`; JSON-ready.

    Raises DataError if nothing in `data` can be used.
    """
    folder = find_world(world)
    config = read_config(folder)
    with tempfile.TemporaryDirectory() as run:
        learned = config.learned_actions
        footage = prepare_footage(data, Path(run), config, preset, None, is_learned=learned)
        model = begin_model(config, str(folder), config).to(device)
        latents = encode_footage(model.tokenizer, footage, Path(run) / "latents")
        sources: list[Any] = [footage.frames, latents, footage.actions]

        def streams() -> Streams:
            return Streams(sources, **asdict(preset.dynamics_batches), seed=0)

        twin = copy.deepcopy(model.dynamics)
        here = DynamicsStage(model.dynamics, model.tokenizer, streams())
        plain = plain_stage(twin, model.tokenizer, streams())
        say("counting operations")
        flops = count_flops(DynamicsStage(copy.deepcopy(twin), model.tokenizer, streams()))
        here.streams = timed = Timed(here.streams)  # type: ignore[assignment]
        samples, losses = alternate(here, plain, seconds)
    batches = preset.dynamics_batches
    frames = batches.lanes * batches.ticks
    floors = measure_floors(device)
    median = statistics.median(samples["here"])
    is_lower = precision_of(torch.device(device)) == torch.bfloat16
    peak = "bf16" if is_lower else "fp32"
    return {
        "speedup": ratio_of_medians(samples["plain"], samples["here"]),
        "frames_per_second": round(1e3 * frames / median, 2),
        "plain_frames_per_second": round(1e3 * frames / statistics.median(samples["plain"]), 2),
        "peak_share": round(flops / median / 1e6 / floors[f"{peak}_gflops"], 4),
        "precision": peak,
        "input_share": round(sum(timed.seconds[WARMUP:]) / sum(samples["here"]) * 1e3, 5),
        "update_ms": percentiles(samples["here"]),
        "plain_ms": percentiles(samples["plain"]),
        "gflop_per_update": round(flops / 1e9, 2),
        "loss_difference": difference(losses["here"], losses["plain"]),
        "losses": losses,
        "updates": len(losses["here"]),
        "floors": floors,
        "device": device,
        "world": config.name,
        "env": environment(),
    }


def alternate(
    here: Stage, plain: Stage, seconds: float
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Update both in turn for about `seconds`, at least LEAST times: milliseconds, and losses."""
    samples: dict[str, list[float]] = {"here": [], "plain": []}
    losses: dict[str, list[float]] = {"here": [], "plain": []}
    end, count = None, 0
    while end is None or count < WARMUP + LEAST or time.perf_counter() < end:
        for name, stage in (("here", here), ("plain", plain)):
            torch.manual_seed(count)  # both sides see the same noise
            begun = time.perf_counter()
            if stage is plain:
                with plainly():
                    loss = float(update(stage, PROGRESS)["loss"])
            else:
                loss = float(update(stage, PROGRESS)["loss"])
            samples[name].append(1e3 * (time.perf_counter() - begun))
            losses[name].append(round(loss, 5))
        count += 1
        if count == WARMUP:
            end = time.perf_counter() + seconds
    return {k: v[WARMUP:] for k, v in samples.items()}, {k: v[WARMUP:] for k, v in losses.items()}


def difference(here: Sequence[float], plain: Sequence[float]) -> dict[str, float | int]:
    """Mean of the paired differences of two curves, as a share of the second one's mean, with a
    95 % bootstrap interval over blocks of neighbours."""
    paired = (np.asarray(here) - np.asarray(plain)) / np.mean(plain)
    size = max(1, min(BLOCK, len(paired) // 8))
    blocks = [paired[start : start + size] for start in range(0, len(paired), size)]
    rng = np.random.default_rng(0)
    draws = [
        np.concatenate([blocks[i] for i in rng.integers(len(blocks), size=len(blocks))]).mean()
        for _ in range(2000)
    ]
    low, high = np.percentile(draws, (2.5, 97.5))
    return {
        "value": round(float(paired.mean()), 5),
        "lo": round(float(low), 5),
        "hi": round(float(high), 5),
        "n": len(paired),
    }


def count_flops(stage: Stage) -> int:
    """Operations of the matrix products and convolutions of one update, forward and backward; the
    second one, as the first one has no lanes that run free yet."""
    update(stage, PROGRESS)
    # as plain matrix products, attention without gradients is counted as well
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        update(stage, PROGRESS)
    return int(counter.get_total_flops())
