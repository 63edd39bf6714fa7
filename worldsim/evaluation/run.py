"""From a world and a folder to a report: what `worldsim eval` calls."""

import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from worldsim.doctor import cpu_name
from worldsim.errors import DataError
from worldsim.evaluation import (
    block_alarm,
    block_audio,
    block_lam,
    block_long,
    block_memory,
    block_objects,
    drift,
    pictures,
    slot_pictures,
    spectrograms,
)
from worldsim.evaluation.block_world import grade
from worldsim.evaluation.footage import Library, load_library
from worldsim.evaluation.intervals import missing
from worldsim.evaluation.plan import Tier, plan_of
from worldsim.evaluation.predictors import WorldPredictor

if TYPE_CHECKING:
    from worldsim.world import World

BLOCKS = ("world", "lam", "audio", "objects", "memory", "long")
NOTES = {
    "n": "units: recordings, or 1000-tic pieces of long ones; lo and hi: 95 % bootstrap over them",
    "g": "PSNR gain in dB over the raw last context frame; one flow step, no noise",
    "cfr4": "nearest real branch after 4 tics, (CFR - chance) / (1 - chance)",
    "motion_ratio": "mean block-matching flow over 256 frames, imagined / real, same controls",
    "sharpness_64": "variance of the Laplacian at frame 64, imagined / real",
    "survival_1024": "share of rollouts never 24 frames in a row beyond 99.9 % of real, or frozen",
    "lam": "a control that changed nothing counts as noop; map_N: N labelled frames, 8 draws",
    "lam.delta4": "dB after 4 tics, inferred over random codes; twin: true over random controls",
    "audio": "gunshots in 128 imagined tics, real controls; a hit is within 50 ms, one to one",
    "audio.onset_f1_codec": "the real sound through the codec: what the waveform head allows",
    "objects": "from 64 square pixels at 160x120; boxes match at IoU 0.3; no probe is fitted",
    "objects.leakage": "mean change outside / inside of the place of a slot moved or removed",
    "alarm": "on held-out pairs; limits as shipped; false_alarms: per 1,000 real frames",
    "memory.mg": "dB over itself, state emptied every 16 tics; last 8 frames of leave and return",
    "memory.reappear_f1_24": "F1 of monsters that a detector finds again; its own F1 beside it",
    "long.tc": "cosine of pooled tokenizer latents of neighbouring frames; 1 for a still",
    "long.frechet": "on means and changes of pooled tokenizer latents over 16 frames; not FVD",
    "mean_frame": "mean of the other recordings of the evaluation folder",
    "nearest_replay": "searches the other recordings of the evaluation folder",
    "frozen": "the world's own reconstruction of the last context frame, held",
}


def evaluate(
    world: "World",
    data: Path,
    *,
    tier: Tier,
    blocks: Sequence[str],
    twin: "World | None",
    out: Path | None,
    log: Callable[[str], None],
) -> dict[str, object]:
    """The whole report, JSON-ready; pictures go to `out`. DataError when `data` is no use."""
    if world.axes:
        raise DataError(f"{world.name} has axes; what eval measures branches over codes")
    start = time.monotonic()
    plan = plan_of(tier)
    library = load_library(data, world.frame_size, max_frames=plan.max_frames, log=log)
    report: dict[str, object] = {"command": "eval", "world": world.name, "hash": world.hash}
    report |= {"data": str(data), "tier": tier, "blocks": list(blocks)}
    report |= describe_library(library)
    for block in blocks:
        if block == "world":
            report |= grade(world, library, plan, log, twin)
        elif block == "lam":
            report["lam"] = block_lam.grade(world, library, plan, log, twin)
        elif block == "audio":
            report["audio"], heard = block_audio.grade(world, library, plan, log)
            if out is not None and heard:
                spectrograms.write(heard, world.fps, out / "sound.png")
        elif block == "objects":
            report["objects"] = block_objects.grade(world, library, plan, log)
        elif block == "memory":
            report["memory"] = block_memory.grade(world, library, plan, log, out)
        elif block == "long":
            report["long"] = block_long.grade(world, library, plan, log, out)
        else:
            report[block] = missing(f"this version does not measure the block '{block}' yet")
    if world.config.features is not None:
        report["alarm"] = block_alarm.grade(world, library, log)
    if out is not None:
        draw(world, library, plan.context, out, log)
        if "objects" in blocks and world.objects is not None and library.has_controls:
            slot_pictures.write_slots(world, library, out / "slots.png")
    report["notes"] = NOTES
    report["env"] = {
        "cpu": cpu_name(),
        "torch": version("torch"),
        "numpy": version("numpy"),
    }
    report["seconds"] = round(time.monotonic() - start, 1)
    return report


def describe_library(library: Library) -> dict[str, object]:
    """What was read: counts, and what was skipped and why."""
    return {
        "recordings": len(library.footage),
        "frames": library.num_frames,
        "skipped": list(library.skipped),
    }


def draw(
    world: "World", library: Library, context: int, out: Path, log: Callable[[str], None]
) -> None:
    """`strips.png` and `rollout.mp4`, from samples; nothing where no controls are known."""
    if not library.has_controls:
        log("no pictures: the recordings have no side files")
        return
    out.mkdir(parents=True, exist_ok=True)
    sampled = WorldPredictor(world, library.controls)
    windows = library.windows(context=context, horizon=max(pictures.TICKS), count=6, seed=6)
    if windows:
        pictures.write_strips(sampled, windows, out / "strips.png")
    long = library.windows(context=context, horizon=drift.MOTION_FRAMES, count=1, seed=7)
    if long:
        pictures.write_clip(sampled, long[0], drift.MOTION_FRAMES, world.fps, out / "rollout.mp4")
    log(f"pictures are in {out}")
