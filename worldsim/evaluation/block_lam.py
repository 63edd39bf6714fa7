"""Block `lam` of `worldsim eval`: what the codes of a world that learned its actions are worth.

    perplexity, nmi, purity       codes of held-out footage against the controls that were executed;
                                  a control that changed nothing counts as none (`noop`)
    map_50, map_200, map_1000     balanced accuracy of a code -> control dictionary that was fitted
                                  on so many labelled frames, on all others; `majority` always names
                                  the most frequent control
    delta4                        PSNR after 4 ticks under inferred codes, minus under random codes
    delta4_random                 the same with other random codes for the inferred ones: about 0
    delta4_twin                   true minus random controls, in a twin trained on true controls
    cycle                         share of codes that are inferred again from the frame they give

(Bruce et al. 2024, "Genie", for delta4 and the dictionary.)
"""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from worldsim.errors import DataError
from worldsim.evaluation import tables
from worldsim.evaluation.fidelity import DELTA, batches, delta
from worldsim.evaluation.footage import Footage, Library, Window
from worldsim.evaluation.intervals import Graded, measure, missing
from worldsim.evaluation.metrics import Frames, frame_change, psnr
from worldsim.evaluation.plan import Plan
from worldsim.evaluation.predictors import WorldPredictor
from worldsim.evaluation.study import Log

if TYPE_CHECKING:
    from worldsim.world import World

LABELS = (50, 200, 1000)
DRAWS = 8  # of the labelled frames; figures are means over them
STILL = 0.5  # grey levels: a picture that changes less has not changed
TABLE_KEYS = ("perplexity", "nmi", "purity", *(f"map_{n}" for n in LABELS), "majority")
KEYS = (*TABLE_KEYS, "delta4", "delta4_twin", "delta4_random", "cycle")
Ints = npt.NDArray[np.int64]


def grade(
    world: "World", library: Library, plan: Plan, log: Log, twin: "World | None" = None
) -> dict[str, Graded]:
    """The report of the block, JSON-ready: one graded quantity per key of KEYS."""
    if world.infer_actions(library.footage[0].frames[:2]) is None:
        why = f"the actions of {world.name} are labelled: it has no codes of its own"
        return dict.fromkeys(KEYS, missing(why))
    log(f"grading {world.name}: codes of real footage")
    report = table_measures(world, library)
    log(f"grading {world.name}: inferred against random codes")
    windows = library.windows(context=plan.context, horizon=DELTA, count=plan.windows, seed=1)
    if windows:
        report |= deltas(world, windows, plan.batch)
        report["cycle"] = cycle(world, windows, plan.batch)
    else:
        why = f"no recording has {plan.context + DELTA} frames without a reset or a death"
        report |= dict.fromkeys(("delta4", "delta4_random", "cycle"), missing(why))
    report["delta4_twin"] = _twin(twin, library, windows, plan.batch, log)
    return {key: report[key] for key in KEYS}


def table_measures(world: "World", library: Library) -> dict[str, Graded]:
    """What needs nothing but codes and controls of real footage."""
    if not library.has_controls:
        why = "the recordings have no side files, so nobody knows which controls were executed"
        return dict.fromkeys(TABLE_KEYS, missing(why))
    controls, codes, units = told_and_inferred(world, library)
    if len(controls) == 0:
        return dict.fromkeys(TABLE_KEYS, missing("no frame has a known control"))
    shape = (len(library.controls), world.num_actions)
    each = [tables.count(controls[units == u], codes[units == u], *shape) for u in np.unique(units)]
    whole = np.stack(each)
    report = {
        name: tables.graded(whole, statistic)
        for name, statistic in (
            ("perplexity", tables.perplexity),
            ("nmi", tables.nmi),
            ("purity", tables.purity),
        )
    }
    for labels in LABELS:
        report[f"map_{labels}"] = _mapped(controls, codes, units, whole, labels)
    most = np.full(shape[1], whole.sum(axis=(0, 2)).argmax())
    report["majority"] = tables.graded(whole, partial(tables.balanced, dictionary=most))
    return report


def told_and_inferred(world: "World", library: Library) -> tuple[Ints, Ints, Ints]:
    """Of every frame whose control is known: the control, the inferred code and the unit, (N,)."""
    noop = library.controls.index("noop") if "noop" in library.controls else None
    found: list[tuple[Ints, Ints, Ints]] = []
    for footage in library.footage:
        if footage.controls is None or len(footage.frames) < 2:
            continue
        codes = world.infer_actions(footage.frames)
        assert codes is not None, "the world has learned its actions"
        controls = footage.controls[1:].copy()
        if noop is not None:
            controls[(controls >= 0) & ~_effective(footage)] = noop
        known = (controls >= 0) & ~footage.resets[1:]
        units = np.array([footage.unit_of(tic) for tic in range(1, len(footage.frames))])
        found.append((controls[known], codes[known], units[known]))
    if not found:
        nothing = np.zeros(0, dtype=np.int64)
        return nothing, nothing, nothing
    controls, codes, units = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return controls, codes, units


def deltas(world: "World", windows: Sequence[Window], batch: int) -> dict[str, Graded]:
    """`delta4` and `delta4_random`, in dB; one flow step, no noise."""
    rng = np.random.default_rng(4)
    gains: dict[str, list[float]] = {"delta4": [], "delta4_random": []}
    for group in batches(windows, batch):
        real = np.stack([w.future(DELTA)[-1] for w in group])
        inferred = _codes(world, group)
        random = rng.integers(world.num_actions, size=(2, len(group), DELTA))
        past, future = inferred[:, :-DELTA], inferred[:, -DELTA:]
        base = psnr(real, _after(world, group, past, random[0]))
        gains["delta4"].extend(psnr(real, _after(world, group, past, future)) - base)
        gains["delta4_random"].extend(psnr(real, _after(world, group, past, random[1])) - base)
    units = [w.unit for w in windows]
    return {key: measure(values, units).graded() for key, values in gains.items()}


def cycle(world: "World", windows: Sequence[Window], batch: int) -> Graded:
    """P[code inferred from (real frames, frame imagined under code z) = z], z any code."""
    hits: list[float] = []
    for group in batches(windows, batch):
        past = _codes(world, group)[:, :-DELTA]
        right = np.zeros(len(group))
        for code in range(world.num_actions):
            imagined = _after(world, group, past, np.full((len(group), 1), code))
            for i, window in enumerate(group):
                seen = world.infer_actions(np.stack([*window.frames[-2:], imagined[i]]))
                assert seen is not None, "the world has learned its actions"
                right[i] += seen[-1] == code
        hits.extend(right / world.num_actions)
    return measure(hits, [w.unit for w in windows]).graded()


def _twin(
    twin: "World | None", library: Library, windows: Sequence[Window], batch: int, log: Log
) -> Graded:
    if twin is None:
        return missing("no twin was given: --twin WORLD, trained on the true controls")
    if twin.frame_size != library.frame_size:
        return missing(f"the twin's frames are {twin.frame_size}, not {library.frame_size}")
    if not library.has_controls or not windows:
        return missing("a twin needs recordings with side files")
    log(f"grading the twin {twin.name}: true against random controls")
    try:
        predictor = WorldPredictor(twin, library.controls, exact=True)
    except DataError as error:
        return missing(str(error))
    return delta(predictor, windows, len(library.controls), batch).graded()


def _mapped(controls: Ints, codes: Ints, units: Ints, whole: tables.Floats, labels: int) -> Graded:
    if len(controls) <= labels:
        return missing(f"there are {len(controls)} labelled frames, {labels} are not held out")
    shape, present = whole.shape[1:], np.unique(units)
    rng = np.random.default_rng(labels)
    draws = []
    for _ in range(DRAWS):
        picked = rng.permutation(len(controls))[:labels]
        learned = [picked[units[picked] == u] for u in present]
        used = np.stack([tables.count(controls[rows], codes[rows], *shape) for rows in learned])
        draws.append((whole - used, tables.dictionary(used.sum(axis=0))))
    graded = [tables.graded(t, partial(tables.balanced, dictionary=d)) for t, d in draws]
    return _mean(graded)


def _mean(graded: Sequence[Graded]) -> Graded:
    """Of value and bounds; the units are the same ones."""
    mean: Graded = dict(graded[0])
    for key in ("value", "lo", "hi"):
        numbers = [n for g in graded if isinstance(n := g[key], float)]
        mean[key] = float(np.mean(numbers)) if numbers else None
    return mean


def _effective(footage: Footage) -> npt.NDArray[np.bool_]:
    """(T - 1,), whether the picture changed at all."""
    changes = [frame_change(a, b) for a, b in _pieces(footage.frames)]
    moved: npt.NDArray[np.bool_] = np.concatenate(changes) >= STILL
    return moved


def _pieces(frames: Frames, size: int = 256) -> list[tuple[Frames, Frames]]:
    """Neighbours, (N, H, W, 3) twice, a bounded number at a time."""
    begins = range(0, len(frames) - 1, size)
    return [(frames[b : b + size][: len(frames) - 1 - b], frames[b + 1 :][:size]) for b in begins]


def _codes(world: "World", group: Sequence[Window]) -> Ints:
    """Inferred codes of each context and of the DELTA ticks after it, (N, context - 1 + DELTA)."""
    found = [world.infer_actions(np.concatenate([w.frames, w.future(DELTA)])) for w in group]
    return np.array(found, dtype=np.int64)


def _after(world: "World", group: Sequence[Window], past: Ints, future: Ints) -> Frames:
    """The last frame (N, H, W, 3) under the codes `future` (N, ticks), after each context."""
    contexts = np.stack([w.frames for w in group])
    state = world.reset(contexts, seed=[0] * len(group), batch=len(group), actions=past)
    frame = contexts[:, -1]
    for codes in future.T:
        state, out = world.step(state, codes, flow_steps=1, noise_scale=0.0)
        frame = out.frame
    return frame
