"""What does each term of the dynamics' loss buy? Trains a world per row and seed, and grades it.

    python -m worldsim.benchmarks.ablation recordings held-out --init runs/small/world --out runs/ab

All rows begin with the same world, whose tokenizer is trained and whose dynamics is not, and get
the same number of updates; a seed is the order of the footage and the noise. They are graded on
samples under the recorded controls:

    motion   block-matching flow over 256 frames, imagined / real: a frozen video has 0
    cuts     per 1,000 frames, pairs less alike in phi than 99.9 % of real ones, less those in the
             real clips
    drift    distance in phi to the nearest of 2,000 real frames, in frames 193-256 less 1-64,
             in standard deviations of that distance among real frames
    sharp    variance of the Laplacian at frame 64, imagined / real

What limits the answer: small worlds, short training, few seeds. phi grades what phi has trained;
motion and sharpness do not depend on it.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worldsim.evaluation.drift import MOTION_FRAMES, flow_of_real, motion_and_sharpness
from worldsim.evaluation.fidelity import batches
from worldsim.evaluation.footage import Library, Window, load_library
from worldsim.evaluation.intervals import Measure
from worldsim.evaluation.predictors import WorldPredictor
from worldsim.phi import find_features
from worldsim.runtime import prepare
from worldsim.tokenizer.features import Features
from worldsim.training import dynamics_stage, imagine
from worldsim.training.run import train
from worldsim.training.say import say
from worldsim.world import World

HOMES = (dynamics_stage, imagine)  # of the constants
# row -> kind of L_consist, and constants of the dynamics' training
ROWS: dict[str, tuple[str, dict[str, float]]] = {
    "off": ("off", {}),
    "matched": ("matched", {}),
    "band": ("band", {}),
    "naive": ("naive", {}),
    "naive x 30": ("naive", {"CONSIST_WEIGHT": 3.0}),
    "no critic": ("off", {"CRITIC_FROM": 2.0}),
    "no news term": ("off", {"NEWS_WEIGHT": 0.0}),
    "no free lanes": ("off", {"FREE_FROM": 2.0}),
}
CONTEXT, BATCH = 32, 8
BANK, PAIRS = 2000, 8000  # real frames, real pairs
EDGE = 64  # frames at either end of a rollout between which drift is measured
QUANTILE = 1e-3


@dataclass(frozen=True)
class Yardstick:
    """What real footage looks like in phi."""

    phi: Features
    windows: list[Window]
    real_flow: Any
    cosine: float  # of neighbours, reached by 99.9 % of real pairs
    bank: Tensor  # (BANK, d)
    spread: float  # standard deviation of the distance of real frames to the nearest other one


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--rows", nargs="+", choices=list(ROWS), default=["off", "matched", "naive"]
    )
    parser.add_argument("--features", default=None, help="phi, as for worldsim train")
    parser.add_argument("--windows", type=int, default=24, help="rollouts per world")
    parser.add_argument("--max-frames", type=int, default=24_000, help="held-out frames read")
    args = parser.parse_args()
    prepare(threads=1)
    phi = find_features(args.features)
    if phi is None:
        parser.error("no features: convert them first (worldsim data features), or --features FILE")
    size = World.load(args.init).frame_size
    library = load_library(args.held_out, size, max_frames=args.max_frames, log=say)
    yardstick = measure_real(library, phi, args.windows)
    args.out.mkdir(parents=True, exist_ok=True)
    kept = args.out / "rows.jsonl"
    results = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    known = {(found["row"], found["seed"]) for found in results}
    for seed in args.seeds:
        for row in args.rows:
            if (row, seed) in known:
                continue
            world = trained(args, row, seed)
            found = grade(world, library, yardstick)
            line = {"row": row, "seed": seed, "steps": args.steps, **found}
            with kept.open("a") as file:
                file.write(json.dumps(line) + "\n")
            say(json.dumps(line))
            results.append(line)
    print(table(results), file=sys.stderr)
    print(json.dumps({"command": "ablation", "rows": results}))
    return 0


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """What every comparison of trained rows is told."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("recordings", type=Path, help="folder to train on, with side files")
    parser.add_argument("held_out", type=Path, help="folder to grade on, with side files")
    parser.add_argument("--init", required=True, help="world whose tokenizer is used")
    parser.add_argument("--out", type=Path, required=True, help="one run folder per row and seed")
    parser.add_argument("--steps", type=int, default=500, help="updates of the dynamics")
    return parser


def trained(args: argparse.Namespace, row: str, seed: int) -> World:
    """The world of a row, trained now unless it is there."""
    run = args.out / f"{row.replace(' ', '-')}-{seed}"
    if not (run / "world" / "config.json").is_file():
        consistency, constants = ROWS[row]
        shared = args.out / "shared"
        for part in ("cache", "latents"):  # the same for all
            (shared / part).mkdir(parents=True, exist_ok=True)
            run.mkdir(parents=True, exist_ok=True)
            if not (run / part).exists():
                (run / part).symlink_to((shared / part).resolve())
        with changed(constants):
            train(
                args.recordings,
                run,
                steps=args.steps,
                actions="labelled",
                init=args.init,
                preset=args.preset,
                seed=seed,
                stages=["dynamics"],
                features=args.features,
                consistency=consistency,  # type: ignore[arg-type]
            )
    return World.load(run / "world")


@contextmanager
def changed(constants: dict[str, float]) -> Iterator[None]:
    """Constants of the dynamics' training, for a while."""
    homes = {name: next(home for home in HOMES if hasattr(home, name)) for name in constants}
    before = {name: getattr(home, name) for name, home in homes.items()}
    try:
        for name, value in constants.items():
            setattr(homes[name], name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(homes[name], name, value)


@torch.inference_mode()
def measure_real(library: Library, phi: Features, count: int) -> Yardstick:
    """Windows, and limits from the clean frames of the library."""
    windows = library.windows(context=CONTEXT, horizon=MOTION_FRAMES, count=count, seed=2)
    pairs = library.windows(context=2, horizon=1, count=PAIRS, seed=3)
    before = features_of(phi, [w.frames[0] for w in pairs])
    after = features_of(phi, [w.frames[1] for w in pairs])
    cosine = float(np.quantile((before * after).sum(dim=-1).numpy(), QUANTILE))
    bank = after[:BANK]
    # the neighbours of a moment are no measure of how densely the footage is covered
    owners = torch.tensor([w.unit for w in pairs])
    distances = torch.cdist(after[BANK : 2 * BANK], bank)
    distances[owners[BANK : 2 * BANK, None] == owners[None, :BANK]] = torch.inf
    spread = float(distances.min(dim=1).values.std())
    return Yardstick(phi, windows, flow_of_real(windows), cosine, bank, spread)


def features_of(phi: Features, frames: Sequence[Any]) -> Tensor:
    """uint8 (H, W, 3) each -> (N, d)."""
    parts = [frames[i : i + 64] for i in range(0, len(frames), 64)]
    return torch.cat([phi(torch.from_numpy(np.stack(part))) for part in parts])


@torch.inference_mode()
def grade(world: World, library: Library, real: Yardstick) -> dict[str, float]:
    """The measures of one world."""
    predictor = WorldPredictor(world, library.controls)
    moved = motion_and_sharpness(predictor, real.windows, real.real_flow, BATCH)
    cuts, real_cuts = 0, 0
    early: list[Tensor] = []
    late: list[Tensor] = []
    alike: list[Tensor] = []
    for group in batches(real.windows, BATCH):
        controls = np.stack([w.future_controls(MOTION_FRAMES) for w in group])
        before = features_of(real.phi, [w.seed_frame for w in group])
        truth = before
        for tick, frame in enumerate(predictor.rollout(group, controls), start=1):
            now = features_of(real.phi, list(frame))
            cosine = (now * before).sum(dim=-1)
            cuts += int((cosine < real.cosine).sum())
            alike.append(cosine)
            came = features_of(real.phi, [w.footage.frames[w.now + tick] for w in group])
            real_cuts += int(((came * truth).sum(dim=-1) < real.cosine).sum())
            if tick <= EDGE or tick > MOTION_FRAMES - EDGE:
                distance = torch.cdist(now, real.bank).min(dim=1).values
                (early if tick <= EDGE else late).append(distance)
            before, truth = now, came
    frames = len(real.windows) * MOTION_FRAMES
    return {
        "motion": _value(moved["motion_ratio"]),
        "cuts": 1e3 * (cuts - real_cuts) / frames,
        "drift": float(torch.cat(late).mean() - torch.cat(early).mean()) / real.spread,
        "sharp": _value(moved["sharpness_64"]),
        "alike": float(torch.cat(alike).mean()),
    }


def _value(measured: Measure) -> float:
    return float(measured.graded()["value"] or 0.0)


def table(results: Sequence[dict[str, Any]]) -> str:
    """Mean and range over seeds, as a Markdown table."""
    keys = ("motion", "cuts", "drift", "sharp", "alike")
    lines = ["| row | seeds | " + " | ".join(keys) + " |", "| --- " * (len(keys) + 2) + "|"]
    for row in dict.fromkeys(r["row"] for r in results):
        own = [r for r in results if r["row"] == row]
        cells = []
        for key in keys:
            values = [r[key] for r in own]
            cells.append(f"{np.mean(values):.2f} [{min(values):.2f}, {max(values):.2f}]")
        lines.append(f"| {row} | {len(own)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
