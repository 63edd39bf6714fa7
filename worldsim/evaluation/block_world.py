"""Block `world` of `worldsim eval`: one row of measures per predictor, on the same moments.

Rows: the world at the top level of the report, then `copy_last`, `mean_frame`, `frozen`,
`nearest_replay`, and with a second world also `twin` and `minus_twin` (paired differences). Pixel
errors, retrieval and the sign test are graded on the deterministic prediction (one flow step, no
noise); motion, sharpness and survival on samples (two flow steps).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from worldsim.errors import DataError
from worldsim.evaluation import control, drift, fidelity, survival
from worldsim.evaluation.footage import Library, Window
from worldsim.evaluation.intervals import Graded, Measure, Missing
from worldsim.evaluation.metrics import Frames
from worldsim.evaluation.plan import Plan
from worldsim.evaluation.predictors import (
    CopyLast,
    Frozen,
    MeanFrame,
    NearestReplay,
    Predictor,
    RealFootage,
    WorldPredictor,
    codes_of,
)
from worldsim.evaluation.study import Log, Study, build_study

if TYPE_CHECKING:
    from worldsim.world import World

Row = dict[str, Measure | Missing]

KEYS = (
    "ceiling_psnr",
    "g1",
    "g4",
    "g16",
    "dynpsnr_gain1",
    "delta4",
    "cfr4",
    "sign",
    "motion_ratio",
    "sharpness_64",
    "survival_1024",
)
WORLD_KEYS = (*KEYS, "g64", "g64_memory", "tokenizer_sharpness", "ceiling_psnr_cleared")
MEMORY_WINDOW = 16  # ticks after which the recurrent memory is emptied for g64_memory


def grade(
    world: "World", library: Library, plan: Plan, log: Log, twin: "World | None" = None
) -> dict[str, object]:
    """The report of the block, JSON-ready. Raises DataError when `twin` has another frame size."""
    if twin is not None and twin.frame_size != world.frame_size:
        raise DataError(
            f"the twin's frames are {twin.frame_size}, the world's {world.frame_size}; "
            "only worlds of one size can be compared"
        )
    study = build_study(library, plan, world.num_actions, log)
    own = world_row(study, world, log)
    report: dict[str, object] = dict(graded(own, WORLD_KEYS))
    report |= baseline_rows(study, world, log)
    if twin is not None:
        log("grading the twin")
        other = world_row(study, twin, log)
        report["twin"] = graded(other, WORLD_KEYS)
        report["minus_twin"] = {key: _difference(own[key], other[key]) for key in own}
    report["checks"] = checks(study)
    return report


def world_row(study: Study, world: "World", log: Log) -> Row:
    """Every measure of one world."""
    try:
        controls = study.library.controls
        if controls:
            codes_of(world, controls)
    except DataError as error:
        return {key: Missing(str(error)) for key in WORLD_KEYS} | _tokenizer_row(study, world)
    names = controls or tuple(world.actions)
    exact = WorldPredictor(world, names, exact=True)
    forgetful = WorldPredictor(world, names, exact=True, forget_every=MEMORY_WINDOW)
    sampled = WorldPredictor(world, names)
    log(f"grading {world.name}: tokenizer")
    row = _tokenizer_row(study, world)
    log(f"grading {world.name}: rollouts")
    row |= predictor_row(study, exact, sampled)
    log(f"grading {world.name}: memory")
    row["g64_memory"] = _memory(study, row, forgetful)
    return row


def predictor_row(study: Study, exact: Predictor, sampled: Predictor) -> Row:
    """The measures that need nothing but rollouts."""
    batch = study.plan.batch
    row: Row = {}
    why = _why_no_windows(study, study.gain_windows, max(fidelity.GAINS))
    if why:
        row |= {key: Missing(why) for key in ("g1", "g4", "g16", "g64", "dynpsnr_gain1", "delta4")}
    else:
        row |= fidelity.gains(exact, study.gain_windows, batch)
        count = len(study.library.controls)
        row["delta4"] = fidelity.delta(exact, study.gain_windows, count, batch)
    row |= _control_row(study, exact)
    why = _why_no_windows(study, study.motion_windows, drift.MOTION_FRAMES)
    if why:
        row |= {key: Missing(why) for key in ("motion_ratio", "sharpness_64")}
    else:
        row |= drift.motion_and_sharpness(sampled, study.motion_windows, study.real_flow, batch)
    row["survival_1024"] = survival.survival(
        sampled,
        study.survivors,
        study.survivor_controls,
        study.health,
        noop=study.noop,
        batch=batch,
    )
    return row


def baseline_rows(study: Study, world: "World", log: Log) -> dict[str, dict[str, Graded]]:
    """What a world has to beat, through the same code as the world."""
    alone = Missing(
        "it draws on other recordings than the one it is asked about; there is only one"
    )
    rows: dict[str, dict[str, Graded]] = {}
    for name, predictor in baselines(study, world).items():
        if predictor is None:
            rows[name] = {key: alone.graded() for key in KEYS}
            continue
        log(f"grading {name}")
        row = predictor_row(study, predictor, predictor)
        row["ceiling_psnr"] = Missing("a baseline has no tokenizer")
        rows[name] = graded(row, KEYS)
    return rows


def baselines(study: Study, world: "World") -> dict[str, Predictor | None]:
    """The predictor of each row; None where a second recording would be needed."""
    library = study.library
    several = len(library.footage) > 1
    return {
        "copy_last": CopyLast(),
        "mean_frame": MeanFrame(library) if several else None,
        "frozen": Frozen(world.reconstruct),
        "nearest_replay": NearestReplay(library) if several else None,
    }


def checks(study: Study) -> dict[str, Graded]:
    """What the measures say about the real thing: both should be near 1."""
    sign: Measure | Missing = Missing(study.no_branches)
    if study.branches:
        sign = control.real_sign(study.branches)
    alive: Measure | Missing = Missing("no recording has 1024 clean frames in a row")
    if study.real_survivors:
        windows = study.real_survivors
        alive = survival.survival(
            RealFootage(),
            windows,
            survival.own_controls(windows, study.survivor_controls.shape[1]),
            study.health,
            noop=study.noop,
            batch=study.plan.batch,
        )
    return {"sign_of_real": sign.graded(), "survival_of_real": alive.graded()}


def graded(row: Row, keys: Sequence[str]) -> dict[str, Graded]:
    """The numbers of a row, in the order of `keys`."""
    return {key: row[key].graded() for key in keys}


def _tokenizer_row(study: Study, world: "World") -> Row:
    windows = study.survivors

    def cleared(frames: Frames) -> Frames:
        return world.reconstruct(frames, clear_cache=True)

    return dict(fidelity.tokenizer(windows, world.reconstruct, cleared))


def _control_row(study: Study, exact: Predictor) -> Row:
    if not study.branches:
        return {key: Missing(study.no_branches) for key in ("cfr4", "sign")}
    batch = 2 * study.plan.batch  # short rollouts: memory is no concern
    return {
        "cfr4": control.retrieval(exact, study.branches, batch),
        "sign": control.sign(exact, study.branches, study.library.controls, batch),
    }


def _memory(study: Study, row: Row, forgetful: Predictor) -> Measure | Missing:
    full = row["g64"]
    if isinstance(full, Missing):
        return full
    without = fidelity.gains(forgetful, study.gain_windows, study.plan.batch)
    return fidelity.memory_gain(full, without["g64"])


def _why_no_windows(study: Study, windows: Sequence[Window], horizon: int) -> str:
    if not study.library.has_controls:
        return "the recordings have no side files, so nobody knows which controls were executed"
    length = study.plan.context + horizon
    return "" if windows else f"no recording has {length} frames without a reset or a death"


def _difference(mine: Measure | Missing, theirs: Measure | Missing) -> Graded:
    if isinstance(mine, Missing):
        return mine.graded()
    return theirs.graded() if isinstance(theirs, Missing) else mine.minus(theirs)
