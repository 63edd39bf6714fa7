"""Everything that needs a GPU, in parts that each end within eight minutes: `make gpu`.

    python -m worldsim.benchmarks.gpu --out runs/gpu --data recordings [--device cuda] [--toy]

Needs no network. Each part writes OUT/PART.json when it is done and is skipped from then on, so a
run that was cut off goes on where it was. `train` stops after seven minutes; the next run goes on
with it until `--minutes` are used up. A part that fails says why in its JSON and does not stop the
others; it is tried again in the next run. `--part NAME` does one part alone.

parity    the tests that are marked gpu
latency   base (360p) and large (720p), weights drawn at random: action to encoded frame
players   how many players of the default world one GPU serves at 24 frames per second
training  updates of the dynamics per second, default world
train     `doom-hall`, from the shipped one, with checkpoints of its own

With --toy everything shrinks until a CPU can do it: to test this file, not to measure.
"""

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from worldsim.backends.cuda import Cuda
from worldsim.backends.parts import Parts
from worldsim.benchmarks.latency import measure_latency
from worldsim.benchmarks.model import size
from worldsim.benchmarks.timing import environment, percentiles
from worldsim.errors import MachineError
from worldsim.floors import measure_floors
from worldsim.model import WorldModel
from worldsim.training.begin import config_of
from worldsim.training.metrics import read_metrics
from worldsim.training.presets import PRESETS, Preset
from worldsim.world import World

PART_SECONDS = 480.0  # a part is done by then
TRAIN_SECONDS = 420.0  # then it saves
MOST_DATA = 40e6  # bytes of recordings
INTERRUPTED = 130
RATE = 24.0  # frames per second that a player gets
FRAMES = 1000
PLAYERS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True, kw_only=True)
class Job:
    """What `make gpu` was asked for."""

    out: Path
    data: Path
    device: str = "cuda"
    minutes: float = 30.0  # of training
    toy: bool = False
    part: str | None = None  # None: all of them


def shrunken(preset: Preset) -> Preset:
    """`preset` with the same parts, layer for layer, but thin and on a small grid."""
    return replace(
        preset,
        tokenizer=replace(
            preset.tokenizer,
            height=64,
            width=96,
            channels=16,
            encoder_width=32,
            encoder_hidden=16,
            decoder_widths=(16, 16, 32),
            decoder_hidden=(16, 16, 16),
        ),
        dynamics=replace(
            preset.dynamics, rows=2, columns=3, channels=16, width=32, heads=4, state_size=8
        ),
        dynamics_batches=replace(preset.dynamics_batches, lanes=2, ticks=4),
    )


def random_world(preset: Preset, name: str, device: str) -> World:
    """A world of this shape that has learned nothing; products in bfloat16 (`lowered`)."""
    torch.manual_seed(0)
    config = config_of(preset, name)
    with torch.device(device):
        model = WorldModel(config)
    return World(Path(), config, model.eval().requires_grad_(False), "0" * 64)


class Lowered:
    """A world whose ticks compute their products in bfloat16, from weights kept in it; on a GPU as
    CUDA graphs, or `graphs` says why not."""

    def __init__(self, world: World) -> None:
        self._world, self.graphs = world, ""
        for module in world._model.modules():
            if isinstance(module, torch.nn.Linear):
                module.to(torch.bfloat16)
        try:
            with torch.autocast(world.device.type, torch.bfloat16):
                runner = Cuda(world._parts)
                runner.prepare(1)
            world._parts = Parts(world._model, runner)
        except Exception as error:  # what a capture raises; the plain figure is worth having
            self.graphs = f"not used: {error}"

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._world, name)
        if name not in ("predict", "advance"):
            return value

        def call(*args: Any, **kwargs: Any) -> Any:
            with torch.autocast(self._world.device.type, torch.bfloat16):
                return value(*args, **kwargs)

        return call

    def reset(self, seed: int = 0) -> Any:
        """A state after a look at noise, since there is no start scene."""
        height, width = self._world.frame_size
        frames = np.random.default_rng(seed).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
        with torch.autocast(self._world.device.type, torch.bfloat16):
            return self._world.reset(frames=frames, seed=seed)


def parity(job: Job) -> dict[str, object]:
    """Run the tests that are marked gpu."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu"]
    command += ["--co", "tests/dynamics"] if job.toy else ["-ra"]
    root = Path(__file__).resolve().parent.parent
    if not (root / "tests").is_dir():
        return {"why": "the tests are only in a checkout"}
    done = subprocess.run(
        command, cwd=root, capture_output=True, text=True, timeout=PART_SECONDS - 20
    )
    return {"passed": done.returncode in (0, 5), "said": done.stdout.strip().splitlines()[-5:]}


def latency(job: Job) -> dict[str, object]:
    """Action to encoded frame of the big presets, with random weights."""
    found: dict[str, object] = {"weights": "random"}
    for name in ("base", "large"):
        preset = shrunken(PRESETS[name]) if job.toy else PRESETS[name]
        world = random_world(preset, name, job.device)
        frames = 10 if job.toy else FRAMES
        with torch.inference_mode():
            lowered: Any = Lowered(world)
            found[name] = {
                "parameters": size(world._model),
                "backend": world.backend,
                "graphs": lowered.graphs,
                **measure_latency(lowered, frames=frames, flow_steps=2),
            }
    return found


def players(job: Job) -> dict[str, object]:
    """Ticks of growing batches, until one takes longer than a period."""
    world = World.load("doom-hall", device=job.device, backend="auto")
    rows = []
    for count in PLAYERS[:2] if job.toy else PLAYERS:
        world.prepare(count)
        state = world.reset(batch=count)
        samples = []
        for _ in range(5 if job.toy else 200):
            begun = time.perf_counter()
            state, _ = world.step(state, 0)  # the frames come back to the CPU: that waits
            samples.append(1e3 * (time.perf_counter() - begun))
        rows.append({"players": count, **percentiles(samples[2:])})
        if rows[-1]["p99"] > 1e3 / RATE:
            break
    fitting = [row["players"] for row in rows if row["p99"] <= 1e3 / RATE]
    found = {"players": max(fitting, default=0), "rate": RATE, "backend": world.backend}
    return {**found, "ticks_ms": rows}


def training(job: Job) -> dict[str, object]:
    """Updates of the dynamics against the plain loop."""
    from worldsim.benchmarks.train import measure_training

    preset = PRESETS["default"]
    if job.toy:
        preset = replace(
            preset, dynamics_batches=replace(preset.dynamics_batches, lanes=2, ticks=4)
        )
    return measure_training(
        "doom-hall",
        job.data,
        seconds=1.0 if job.toy else 120.0,
        device=job.device,
        preset=preset,
    )


def train(job: Job) -> dict[str, object]:
    """Train the default world on, in a process that is asked to stop when the part must end; it
    saves then, and the next run of this part goes on."""
    run = job.out / "run"
    flags = ["--out", str(run), "--init", "doom-hall", "--actions", "labelled"]
    flags += ["--stages", "dynamics", "--device", job.device, "--checkpoint-every", "60"]
    flags += ["--steps", "4"] if job.toy else ["--minutes", str(job.minutes)]
    flags += ["--resume"] if (run / "plan.json").exists() else []
    command = [sys.executable, "-m", "worldsim.cli", "train", str(job.data), *flags]
    begun = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        code = process.wait(timeout=TRAIN_SECONDS)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        code = process.wait(timeout=PART_SECONDS - TRAIN_SECONDS)
    if code not in (0, INTERRUPTED):
        raise MachineError(f"training ended with exit code {code}")
    files = [path.stat().st_size for path in (run / "checkpoints").rglob("*") if path.is_file()]
    return {
        "unfinished": code == INTERRUPTED,
        "world": str(run / "world"),
        "seconds": round(time.monotonic() - begun, 1),
        "largest_checkpoint_file": max(files, default=0),
        "last": read_metrics(run)[-1],
    }


PARTS: dict[str, Callable[[Job], dict[str, object]]] = {
    "parity": parity,
    "latency": latency,
    "players": players,
    "training": training,
    "train": train,
}


def run(job: Job) -> dict[str, Any]:
    """Do the parts that are not done yet; what every part found."""
    data = sum(path.stat().st_size for path in job.data.rglob("*") if path.is_file())
    if data > MOST_DATA:
        raise ValueError(f"{job.data} holds {data / 1e6:.0f} MB, at most 40 may be taken along")
    job.out.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {}
    for name, part in PARTS.items():
        if job.part not in (None, name):
            continue
        path = job.out / f"{name}.json"
        known = json.loads(path.read_text()) if path.is_file() else {"error": "not done yet"}
        if "error" not in known and not known.get("unfinished"):
            found[name] = known
            continue
        print(f"{name} ...", file=sys.stderr, flush=True)
        begun = time.monotonic()
        try:
            result = {**part(job), "floors": measure_floors(job.device), "env": environment()}
        except Exception as error:  # the other parts are worth having without this one
            result = {"error": f"{type(error).__name__}: {error}"}
        result["part_seconds"] = round(time.monotonic() - begun, 1)
        path.write_text(json.dumps(result, indent=1) + "\n")
        found[name] = result
    return found


def main(arguments: list[str] | None = None) -> int:
    """Parse, run, end with one JSON line; 0 if no part failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--part", choices=PARTS)
    job = Job(**vars(parser.parse_args(arguments)))
    if job.toy:
        torch.set_num_threads(1)
    found = run(job)
    print(json.dumps({"command": "gpu", **found}))
    return int(any("error" in part for part in found.values()))


if __name__ == "__main__":
    sys.exit(main())
