"""Block `memory` of `worldsim eval`: is the hall still there when one turns back?

    mg_64, mg_128, mg_256   PSNR gain in dB of the world over itself with its recurrent memory and
                            what it keeps of what was seen emptied every 16 tics of the way back,
                            over the last 8 frames of trips that return 64, 128, 256 tics after
                            they began (`trips.py`), where the game shows what it showed before:
                            what has come or gone in the meantime is nothing to remember
    mg_64_keyframes         the same over itself without its keyframes
    reappear_f1_24          monsters that were in view, and 24 tics later are again: F1 of those
                            that a detector finds in the imagined picture (`detector.py`)

Pixels are graded on the deterministic prediction, monsters on samples. `reappear` has the same F1
of others: `no_state`, `no_slots` (what is known of objects forgotten in every tick), frozen, the
oracle, and the detector on real frames. `rows` has the PSNR of each predictor: the world, without
state, without the trunk's state alone, without keyframes (its own and those of its footage), frozen
(a picture that stays), and `oracle`, the real past frame of the same angle, which is what perfect
retrieval could show.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from worldsim.errors import DataError, WorldsimError
from worldsim.evaluation.counterfactual import TURNS
from worldsim.evaluation.detector import PASSES, Detector, matches, middles, train_detector
from worldsim.evaluation.footage import Library, Window
from worldsim.evaluation.intervals import Graded, Measure, measure, missing, ratio
from worldsim.evaluation.metrics import Frames, masked_psnr
from worldsim.evaluation.pictures import write_rows
from worldsim.evaluation.plan import Plan
from worldsim.evaluation.predictors import Frozen, Predictor, WorldPredictor, codes_of
from worldsim.evaluation.study import Log
from worldsim.evaluation.trips import Trip, make_trips

if TYPE_CHECKING:
    from worldsim.world import World

DISTANCES = (64, 128, 256)  # tics
REVISIT = 8  # frames at the end of a trip
WINDOW = 16  # tics after which the state is emptied
# one tic turns by 3.5 degrees, the view is 90 degrees wide: what was in the middle is out of view
# for 24 of 2 * 25 tics
REAPPEAR = 50
KEYS = (*(f"mg_{d}" for d in DISTANCES), "mg_64_keyframes", "reappear_f1_24")


def grade(
    world: "World", library: Library, plan: Plan, log: Log, out: Path | None = None
) -> dict[str, object]:
    """The report of the block, JSON-ready; strips go to `out`."""
    why = _why_not(world, library)
    trips: dict[int, list[Trip]] = {}
    if not why:
        try:
            starts = pick_starts(library, plan)
            why = "" if starts else "no clean moment early enough in an episode"
            trips = {d: make_trips(library, starts, d, log) for d in (*DISTANCES, REAPPEAR)}
        except WorldsimError as error:
            why = str(error)
    if why:
        return dict.fromkeys(KEYS, missing(why))
    return grade_trips(world, library, trips, plan.batch, log, out)


def grade_trips(
    world: "World",
    library: Library,
    trips: dict[int, list[Trip]],
    batch: int,
    log: Log,
    out: Path | None = None,
) -> dict[str, object]:
    """The same for trips by how many tics they take."""
    names = library.controls
    predictors: dict[str, Predictor | None] = {
        "world": WorldPredictor(world, names, exact=True),
        "no_state": WorldPredictor(world, names, exact=True, forget_every=WINDOW, forget_kept=True),
        "no_trunk": WorldPredictor(world, names, exact=True, forget_every=WINDOW),
        "frozen": Frozen(world.reconstruct),
        "oracle": None,
    }
    if world.has_keyframes:
        predictors["no_keyframes"] = WorldPredictor(world.without_keyframes(), names, exact=True)
    rows: dict[str, dict[int, Measure]] = {}
    for name, predictor in predictors.items():
        log(f"grading leave and return: {name}")
        rows[name] = {d: returned(predictor, trips[d], batch) for d in DISTANCES}
    full = rows["world"]
    report: dict[str, object] = {f"mg_{d}": _gain(full[d], rows["no_state"][d]) for d in DISTANCES}
    none = f"{world.name} has no keyframes; `worldsim train --stages dynamics` gives it some"
    report["mg_64_keyframes"] = (
        _gain(full[64], rows["no_keyframes"][64]) if "no_keyframes" in rows else missing(none)
    )
    log("grading leave and return: monsters")
    sampled = WorldPredictor(world, names)
    stateless = WorldPredictor(world, names, forget_every=WINDOW, forget_kept=True)
    seekers = {"world": sampled, "no_state": stateless, "frozen": predictors["frozen"]}
    if world.objects is not None:
        seekers["no_slots"] = WorldPredictor(world, names, forget_slots=True)
    report |= reappearance(library, trips[REAPPEAR], seekers, batch)
    report["rows"] = {
        name: {f"psnr_{d}": found.graded() for d, found in row.items()}
        for name, row in rows.items()
    }
    if out is not None:
        write_trips(sampled, trips, out / "leave-and-return.png")
    return report


def pick_starts(library: Library, plan: Plan) -> list[Window]:
    """Moments early in their episodes, with half a second left to live."""
    many = library.windows(context=plan.context, horizon=16, count=40 * plan.trips, seed=8)
    return [w for w in many if w.now <= plan.state_tics][: plan.trips]


def returned(predictor: Predictor | None, trips: Sequence[Trip], batch: int) -> Measure:
    """PSNR over the last frames of each trip; of the real past frames if there is no predictor."""
    levels: list[float] = []
    for group, frames in _last_frames(predictor, trips, batch):
        real = np.stack([trip.back[-REVISIT:] for trip in group])
        same = np.stack([trip.stayed()[-REVISIT:] for trip in group])
        level = masked_psnr(
            real.reshape(-1, *real.shape[2:]),
            frames.reshape(-1, *real.shape[2:]),
            same.reshape(-1, *same.shape[2:]),
        )
        levels.extend(_means(level.reshape(len(group), REVISIT)))
    return measure(levels, [trip.unit for trip in trips])


def reappearance(
    library: Library, trips: Sequence[Trip], predictors: dict[str, Predictor | None], batch: int
) -> dict[str, object]:
    """`reappear_f1_24` of the world, and `reappear` of every row."""
    detector = train_detector(library)
    if detector is None:
        why = "the side files name too few monsters to learn what they look like"
        return {"reappear_f1_24": missing(why)}
    if detector.real_f1 < PASSES:
        why = f"the detector finds monsters with F1 {detector.real_f1:.2f} in real frames"
        return {"reappear_f1_24": missing(f"{why}, which is below {PASSES}")}
    rows: dict[str, Graded] = {
        name: _reappeared(detector, _last_frames(predictor, trips, batch))
        for name, predictor in predictors.items()
    }
    rows["oracle"] = _reappeared(detector, _last_frames(None, trips, batch))
    real = iter([(trips, np.stack([trip.back[-1:] for trip in trips]))])
    rows["real"] = _reappeared(detector, real)
    return {
        "reappear_f1_24": rows["world"],
        "reappear": rows,
        "detector_f1": round(detector.real_f1, 3),
    }


def write_trips(predictor: Predictor, trips: dict[int, list[Trip]], path: Path) -> None:
    """Two rows per trip: the view before, away, and halfway back to after; real above imagined."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows: list[list[Frames]] = []
    for distance in DISTANCES:
        for trip in trips[distance][:2]:
            turns = len(trip.controls)
            looks = [0, turns // 2, turns - 1 - REVISIT, turns - 1]
            made = list(predictor.rollout([trip.window], trip.controls[None]))
            begin = trip.past[-1]
            rows.append([begin, trip.window.seed_frame, *(trip.back[t] for t in looks)])
            rows.append([begin, trip.window.seed_frame, *(made[t][0] for t in looks)])
    write_rows(rows, path)


def _last_frames(
    predictor: Predictor | None, trips: Sequence[Trip], batch: int
) -> Iterator[tuple[Sequence[Trip], Frames]]:
    """Groups of trips, and the last frames (N, REVISIT, H, W, 3) that they are imagined with."""
    for first in range(0, len(trips), batch):
        group = trips[first : first + batch]
        if predictor is None:
            yield group, np.stack([trip.past[-REVISIT:] for trip in group])
            continue
        controls = np.stack([trip.controls for trip in group])
        kept: list[Frames] = []
        for frame in predictor.rollout([trip.window for trip in group], controls):
            kept = [*kept[1 - REVISIT :], frame]
        yield group, np.stack(kept, axis=1)


def _reappeared(detector: Detector, shown: Iterator[tuple[Sequence[Trip], Frames]]) -> Graded:
    """F1 at the end of the trips, over monsters that were in view at their beginning, too;
    detections at other monsters neither count nor harm."""
    above: list[float] = []
    below: list[float] = []
    units: list[int] = []
    for group, frames in shown:
        for trip, found in zip(group, detector.points(frames[:, -1]), strict=True):
            again = middles([box for i, box in trip.after.items() if i in trip.before])
            others = middles([box for i, box in trip.after.items() if i not in trip.before])
            pairs = matches(found, again)
            strangers = min(len(found) - pairs, matches(found, others))
            above.append(2.0 * pairs)
            below.append(float(len(found) - strangers + len(again)))
            units.append(trip.unit)
    return ratio(above, below, units).graded()


def _means(levels: npt.NDArray[np.float64]) -> list[float]:
    """Of each row, (N, T), without what is NaN; NaN if all of it is."""
    return [
        float(row[np.isfinite(row)].mean()) if np.isfinite(row).any() else np.nan for row in levels
    ]


def _gain(full: Measure, without: Measure) -> Graded:
    return Measure(above=full.above - without.above, unit=full.unit).graded()


def _why_not(world: "World", library: Library) -> str:
    """Why no trip can be made, or nothing."""
    if not library.has_controls:
        return "the recordings have no side files, so the game cannot be replayed"
    if any(name not in library.controls for name in (*TURNS, "noop")):
        return f"the recordings know no {', '.join((*TURNS, 'noop'))}"
    try:
        codes_of(world, library.controls)
    except DataError as error:
        return str(error)
    return ""
