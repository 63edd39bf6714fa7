"""Block `long` of `worldsim eval`: five minutes and more of free play, 7,200 frames.

    survival_7200        share of the rollouts that never fail (`survival.py`, every fourth frame),
                         re-anchoring off
    reanchors_per_1000   how often the alarm puts the world back on a keyframe, if it may
                         (worldsim/anchor.py); the row `reanchored` has what that does
    tc, tc_real          cosine of pooled tokenizer latents of neighbouring frames, imagined and
                         real; a frozen world has 1, so it counts only beside motion_ratio
    motion_ratio         mean block-matching flow, imagined / real, over the whole rollouts
    frechet_7200         Frechet distance of the last 1,200 frames to real ones (`frechet.py`)
    frechet_floor        of real clips to other real clips, of as many recordings
    frechet_frozen       of real clips to stills
    frechet_normalized   (frechet_7200 - floor) / (frozen - floor): 0 is real, 1 is a still
    ms_ratio             ms per frame over the last 500 frames / over frames 100 to 600

Controls are those of the recordings, one tape after another. The rows `copy_last` and `frozen` are
graded by the same code where they can fail.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from worldsim.anchor import ringing_after
from worldsim.errors import DataError
from worldsim.evaluation import frechet
from worldsim.evaluation.fidelity import batches
from worldsim.evaluation.footage import Library, Window
from worldsim.evaluation.intervals import Graded, measure, missing, ratio
from worldsim.evaluation.metrics import Frames, flow_magnitude
from worldsim.evaluation.plan import Plan
from worldsim.evaluation.predictors import Frozen, Predictor, WorldPredictor, codes_of
from worldsim.evaluation.study import Log
from worldsim.evaluation.survival import Health, Watch, calibrate, long_controls
from worldsim.provenance import write_png

if TYPE_CHECKING:
    from worldsim.world import World

FRAMES = 7200
LAST = 1200  # frames, at the end, whose clips are compared
LOOK = 4  # frames between two looks at whether a rollout lives
PAIR = 32  # frames between two pairs of neighbours that are compared
REAL_CLIPS = 600  # at most
TIMED = 500  # frames at either end
SURVIVAL = "share of rollouts that still look real, by frame"
KEYS = (
    "survival_7200",
    "reanchors_per_1000",
    "tc",
    "tc_real",
    "motion_ratio",
    "frechet_7200",
    "frechet_floor",
    "frechet_frozen",
    "frechet_normalized",
    "ms_ratio",
)
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Life:
    """What was seen of some rollouts; (N,) each, but for the clips."""

    failed: Floats  # tick, infinite for who lived
    flow: Floats  # pixels, mean
    constancy: Floats  # cosine, mean
    clips: Floats  # (M, F) features of the last frames
    slowed: Floats  # ms at the end / at the beginning


def grade(
    world: "World", library: Library, plan: Plan, log: Log, out: Path | None = None
) -> dict[str, object]:
    """The report of the block, JSON-ready; survival curves go to `out`."""
    windows = library.windows(context=plan.context, horizon=1, count=plan.long_rollouts, seed=9)
    why = "" if windows else f"no recording has {plan.context + 1} frames without a reset"
    names = library.controls
    try:
        codes_of(world, names)
    except DataError as error:
        why = str(error)
    if why:
        return dict.fromkeys(KEYS, missing(why))
    log("describing real footage")
    noop = names.index("noop") if "noop" in names else None
    health = calibrate(library, noop)
    real = _real(world, library)
    controls = long_controls(library, windows, FRAMES, world.num_actions)
    units = [w.unit for w in windows]

    def play(predictor: Predictor, ticks: int = FRAMES) -> Life:
        some = controls[:, :ticks]
        return live(predictor, world, windows, some, health, noop, plan.batch)

    names = names or tuple(world.actions)
    log(f"playing {len(windows)} rollouts of {FRAMES} frames")
    life = play(WorldPredictor(world, names))
    log("the same with a still")
    still = play(Frozen(world.reconstruct), LAST)
    if out is not None:
        draw_survival({"world": life.failed, "frozen": still.failed}, out / "survival.png")
    own = _row(life, real, units)
    again = missing(f"{world.name} lacks an alarm, or keyframes")
    row: dict[str, Graded] = {"survival_7200": again}
    if world.reanchoring().reanchors:
        log("the same, put back on a keyframe when the alarm keeps ringing")
        predictor = Reanchored(world.reanchoring(), names)
        row = _row(play(predictor), real, units)
        again = measure(1000 * np.array(predictor.counts) / FRAMES, units).graded()
    report: dict[str, object] = {"survival_7200": own["survival_7200"]}
    report["reanchors_per_1000"] = again
    report["tc"] = own["tc"]
    report["tc_real"] = measure(real.constancy, real.units).graded()
    report["motion_ratio"] = own["motion_ratio"]
    report |= _distances(life.clips, real)
    report["ms_ratio"] = measure(life.slowed, units).graded()
    report["reanchored"] = row
    report["frozen"] = _row(still, real, units)
    report["failed_at"] = [None if np.isinf(tick) else int(tick) for tick in life.failed]
    return report


def live(
    predictor: Predictor,
    world: "World",
    windows: Sequence[Window],
    controls: Ints,
    health: Health,
    noop: int | None,
    batch: int,
) -> Life:
    """Play every window under its `controls` (N, ticks) and look on."""
    failed: list[Floats] = []
    flow, constancy, slowed, clips = [], [], [], []
    ticks = controls.shape[1]
    for group in batches(windows, batch):
        first = sum(len(part) for part in failed)
        plan = controls[first : first + len(group)]
        watch = Watch(group, plan, health, noop, every=LOOK)
        before = np.stack([w.seed_frame for w in group])
        moved, alike, last, spent = [], [], [], []
        began = time.perf_counter()
        for tick, frame in enumerate(predictor.rollout(group, plan), start=1):
            spent.append(time.perf_counter() - began)
            watch.see(tick, before, frame)
            if tick % PAIR == 0:
                moved.append(flow_magnitude(before, frame))
                pairs = zip(_pooled(world, before), _pooled(world, frame), strict=True)
                alike.append([_cosine(a, b) for a, b in pairs])
            if tick > ticks - LAST:
                last.append(frame)
            before = frame
            began = time.perf_counter()
        failed.append(watch.failed)
        flow.append(np.mean(moved, axis=0))
        constancy.append(np.mean(alike, axis=0))
        slowed.append(np.full(len(group), _slowed(spent)))
        clips += [_clips(world, frames) for frames in np.stack(last, axis=1)]
    return Life(
        failed=np.concatenate(failed),
        flow=np.concatenate(flow),
        constancy=np.concatenate(constancy),
        clips=np.concatenate(clips),
        slowed=np.concatenate(slowed),
    )


class Reanchored(WorldPredictor):
    """Counts how often each rollout is put back on a keyframe."""

    def __init__(self, world: "World", controls: Sequence[str]) -> None:
        super().__init__(world, controls)
        self.counts: list[int] = []

    def rollout(self, windows: Sequence[Window], controls: Ints) -> Iterator[Frames]:
        ringing = torch.zeros(len(windows), dtype=torch.int64)
        counts = torch.zeros_like(ringing)
        for output in self.outputs(windows, controls):
            assert output.alarm is not None
            ringing, is_lost = ringing_after(ringing, torch.from_numpy(output.alarm))
            counts += is_lost
            yield output.frame
        self.counts += counts.tolist()


def draw_survival(failed: dict[str, Floats], path: Path) -> None:
    """Share of rollouts that live, against frames 0 .. FRAMES, a line per row."""
    from PIL import Image, ImageDraw

    width, height, edge = 720, 240, 24
    sheet = Image.new("RGB", (width + 2 * edge, height + 3 * edge), "white")
    pen = ImageDraw.Draw(sheet)
    pen.rectangle((edge, edge, edge + width, edge + height), outline="black")
    for i, (name, ticks) in enumerate(failed.items()):
        colour = ("black", "red", "blue")[i % 3]
        shares = [float((ticks > t).mean()) for t in np.linspace(0, FRAMES, width)]
        line = [(edge + x, edge + height * (1 - share)) for x, share in enumerate(shares)]
        pen.line(line, fill=colour, width=2)
        pen.text((edge + 110 * i, height + int(1.5 * edge)), name, fill=colour)
    pen.text((width - 120, height + int(1.5 * edge)), f"0 .. {FRAMES} frames", fill="black")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(np.asarray(sheet), path, SURVIVAL, None)


@dataclass(frozen=True, kw_only=True)
class Real:
    """What real footage has, by pieces; (N,) and the recording of each clip."""

    flow: Floats
    constancy: Floats
    units: list[int]
    clips: Floats
    stills: Floats
    owners: Ints


def _real(world: "World", library: Library) -> Real:
    """Pieces of LAST / 4 clean frames, evenly spread."""
    flow, constancy, units, clips, stills, owners = [], [], [], [], [], []
    length = LAST // 4
    wanted = max(2, REAL_CLIPS // (length // frechet.CLIP))
    for window in library.windows(context=1, horizon=length, count=wanted, seed=10):
        frames = window.future(length)
        ticks = np.arange(PAIR, length, PAIR)
        flow.append(float(flow_magnitude(frames[ticks - 1], frames[ticks]).mean()))
        latents = world.encode(frames)
        pooled = latents.mean(axis=1)
        constancy.append(float(np.mean([_cosine(pooled[t - 1], pooled[t]) for t in ticks])))
        units.append(window.unit)
        found = frechet.describe(latents)
        clips.append(found)
        owners += [library.stranger(window.footage, window.now)] * len(found)
        held = np.repeat(latents[:: frechet.CLIP][: len(found)], frechet.CLIP, axis=0)
        stills.append(frechet.describe(held))
    if not flow:
        raise DataError(f"no recording has {length} frames without a reset or a death")
    return Real(
        flow=np.array(flow),
        constancy=np.array(constancy),
        units=units,
        clips=np.concatenate(clips),
        stills=np.concatenate(stills),
        owners=np.array(owners),
    )


def _row(life: Life, real: Real, units: Sequence[int]) -> dict[str, Graded]:
    alive = np.isinf(life.failed).astype(np.float64)
    mean_flow = np.full(len(life.flow), real.flow.mean())
    return {
        "survival_7200": measure(alive, units).graded(),
        "tc": measure(life.constancy, units).graded(),
        "motion_ratio": ratio(life.flow, mean_flow, units).graded(),
    }


def _distances(made: Floats, real: Real) -> dict[str, Graded]:
    """All at the same number of clips, against the same real ones."""
    some = np.unique(real.owners)[::2]
    chosen = np.isin(real.owners, some)
    here, there, held = real.clips[chosen], real.clips[~chosen], real.stills[~chosen]
    if min(len(here), len(there)) < 8:
        why = "it needs at least eight real clips on either side"
        return dict.fromkeys(
            ("frechet_7200", "frechet_floor", "frechet_frozen", "frechet_normalized"), missing(why)
        )
    here, there, held, made = frechet.same_count([here, there, held, made])
    found = {
        "frechet_7200": frechet.graded(made, here),
        "frechet_floor": frechet.graded(there, here),
        "frechet_frozen": frechet.graded(held, here),
    }
    far, floor, still = (float(g["value"] or 0.0) for g in found.values())
    edges = [
        (float(found["frechet_7200"][k] or 0.0) - floor) / (still - floor) for k in ("lo", "hi")
    ]
    found["frechet_normalized"] = {
        "value": (far - floor) / (still - floor),
        "lo": edges[0],
        "hi": edges[1],
        "n": len(made),
    }
    return found


def _clips(world: "World", frames: Frames) -> Floats:
    return frechet.describe(world.encode(frames))


def _pooled(world: "World", frames: Frames) -> npt.NDArray[np.float32]:
    """(N, H, W, 3) -> (N, C)."""
    pooled: npt.NDArray[np.float32] = world.encode(frames).mean(axis=1)
    return pooled


def _cosine(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    return float(a @ b / max(1e-9, float(np.linalg.norm(a) * np.linalg.norm(b))))


def _slowed(spent: Sequence[float]) -> float:
    """Median seconds at the end / near the beginning."""
    begin = spent[100 : 100 + TIMED] or spent
    return float(np.median(spent[-TIMED:]) / np.median(begin))
