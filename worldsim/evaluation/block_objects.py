"""Block `objects` of `worldsim eval`: are the slots the objects, and do they stay the same ones?

    mbo              mean over true objects of the best overlap (IoU) with a slot's box
    idf1_64          IDF1 over clips of 64 real frames: one slot, one object
    position_r2      1 - squared error / variance of the objects' places, on real frames
    position_r2_16   the same, after 16 frames that the world imagined under the real controls
    fg_ari           adjusted Rand index inside the true boxes
    leakage          mean change outside / inside of the place of a slot that is moved or removed

Objects count from 64 square pixels on, at 160x120. Positions are read from the slots as they are:
no probe is fitted. An object that no slot shows counts as one at the mean of all places. The rows
beside it (object_rows.py) are graded alike.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from worldsim.data.recording import Recording
from worldsim.data.video import open_video
from worldsim.dynamics.objects import PRESENCE, REMEMBERED
from worldsim.evaluation import tracks
from worldsim.evaluation.footage import Footage, Library, Window
from worldsim.evaluation.intervals import Graded, measure, missing, ratio
from worldsim.evaluation.object_rows import Clusters, Finder, Grid, Slots, boxes_of, teach
from worldsim.evaluation.plan import Plan
from worldsim.evaluation.predictors import codes_of
from worldsim.evaluation.study import Log
from worldsim.evaluation.tracks import Truth
from worldsim.objects import inside
from worldsim.tokenizer import Tokenizer

if TYPE_CHECKING:
    from worldsim.world import World

CLIP = 64  # frames over which identities must hold
IMAGINED = 16
LEAST_AREA = 64 / (160 * 120)  # of the frame
EVERY = 4  # frames whose boxes are graded
CONTEXT = 16  # frames before a clip
MOST_CLIPS = 48
MOVE = (0.2, 0.0)
PROBE_FRAMES = 2000
KEYS = ("mbo", "idf1_64", "position_r2", "position_r2_16", "fg_ari", "leakage")
EXTENSIVE = ("errors", "around", "same", "total")
Floats = npt.NDArray[np.float64]


def grade(world: "World", library: Library, plan: Plan, log: Log) -> dict[str, object]:
    """The report of the block, JSON-ready: the keys of KEYS, and `rows` with those of others."""
    objects = world.objects
    if objects is None:
        return dict.fromkeys(KEYS, missing(f"{world.name} has no objects"))
    windows = library.windows(
        context=CONTEXT, horizon=CLIP, count=min(plan.windows // 2, MOST_CLIPS), seed=8
    )
    windows = [w for w in windows if w.footage.header]
    if not windows or not library.has_controls:
        why = "no recording with a side file has enough frames without a reset or a death"
        return dict.fromkeys(KEYS, missing(why))
    truths = {f.index: true_objects(f) for f in library.footage if f.header}
    clips = Clips(world, library, windows, truths)
    log(f"grading {world.name}: objects in {len(windows)} clips of {CLIP} frames")
    report: dict[str, object] = dict(clips.grade(Slots(world, objects)))
    report["position_r2_16"] = imagined(world, clips)
    report["leakage"] = leakage(world, clips)
    count = objects.config.slots
    with torch.random.fork_rng():
        torch.manual_seed(0)
        stranger = Tokenizer(world.config.tokenizer).eval().requires_grad_(False)
    others: dict[str, Finder] = {
        "grid": Grid(count),
        "kmeans": Clusters(count),
        "random_encoder": Clusters(count, stranger),
    }
    log(f"grading {world.name}: baselines, and a field that is taught")
    rows: dict[str, object] = {name: clips.grade(finder) for name, finder in others.items()}
    rows["probe"] = _probe(world, clips, library)
    return {**{key: report[key] for key in KEYS}, "rows": rows}


class Clips:
    """Windows with what is true in them."""

    def __init__(
        self,
        world: "World",
        library: Library,
        windows: Sequence[Window],
        truths: dict[int, list[Truth]],
    ) -> None:
        self.windows, self.truths = windows, truths
        self.units = [w.unit for w in windows]
        self._codes = np.append(codes_of(world, library.controls), -1)
        boxes = [truths[w.footage.index][w.now + t].boxes for w in windows for t in range(CLIP)]
        self.mean = np.concatenate(boxes)[:, :2].mean(axis=0)

    def truth(self, window: Window, tick: int) -> Truth:
        """What is there `tick` frames after the context."""
        return self.truths[window.footage.index][window.now + tick]

    def actions(self, window: Window, ticks: int) -> npt.NDArray[np.int64]:
        """The codes executed in the next `ticks`, after a context of unknown ones."""
        codes = self._codes[window.future_controls(ticks)]
        return np.concatenate([np.full(window.context, -1), codes])

    def grade(self, finder: Finder) -> dict[str, Graded]:
        """What can be said of boxes on real frames."""
        sums: dict[str, list[float]] = defaultdict(list)
        for window in self.windows:
            frames = np.concatenate([window.frames, window.future(CLIP)])
            found = finder.find(frames[None], self.actions(window, CLIP)[None])[0]
            truths = [self.truth(window, t + 1) for t in range(CLIP)]
            pairs = list(zip(truths, found[window.context :], strict=True))
            some = pairs[EVERY - 1 :: EVERY]
            sums["mbo"].append(_mean(np.concatenate([tracks.best_overlap(*p) for p in some])))
            sums["ari"].append(_mean(np.array([tracks.foreground_ari(*p) for p in some])))
            wrong = np.array([tracks.position_errors(*p, self.mean) for p in some]).sum(axis=0)
            same, total = tracks.identity_counts(truths, [f for _, f in pairs])
            for key, value in zip(EXTENSIVE, (*wrong, same, total), strict=True):
                sums[key].append(float(value))
        identity = ratio(sums["same"], sums["total"], self.units)
        return {
            "mbo": measure(sums["mbo"], self.units).graded(),
            "idf1_64": identity.graded(),
            "position_r2": _explained(ratio(sums["errors"], sums["around"], self.units).graded()),
            "fg_ari": measure(sums["ari"], self.units).graded(),
        }


def true_objects(footage: Footage) -> list[Truth]:
    """The objects of every frame of a recording that are large enough to count."""
    with open_video(footage.path) as container:
        stream = container.streams.video[0]
        size = np.array([stream.width, stream.height], dtype=np.float64)
    truths = []
    for things in Recording.open(footage.path).objects()[: len(footage.frames)]:
        seen = [(t.id, *t.box) for t in things if t.box is not None]
        table = np.array(seen, dtype=np.float64).reshape(-1, 5)
        corner, extent = table[:, 1:3] / size, table[:, 3:] / size
        boxes = np.concatenate([corner + extent / 2, extent], axis=1)
        large = extent.prod(axis=1) >= LEAST_AREA - 1e-9
        truths.append(Truth(table[large, 0].astype(np.int64), boxes[large]))
    return truths


def imagined(world: "World", clips: Clips) -> Graded:
    """How well slots know their places after IMAGINED frames that the world made up."""
    errors, around = [], []
    for window in clips.windows:
        state = world.reset(window.frames)
        for action in clips.actions(window, IMAGINED)[window.context :]:
            state, _ = world.step(state, int(action))
        assert state.slots is not None
        truth = clips.truth(window, IMAGINED)
        wrong = tracks.position_errors(truth, boxes_of(state.slots)[0], clips.mean)
        errors.append(wrong[0])
        around.append(wrong[1])
    return _explained(ratio(errors, around, clips.units).graded())


def leakage(world: "World", clips: Clips) -> Graded:
    """Change outside of an object's old and new place, per pixel, over that inside, in the frame
    after an edit: the largest seen object, once moved and once removed."""
    outside, within, units = [], [], []
    for window in clips.windows:
        state = world.reset(window.frames)
        assert state.slots is not None
        seen = state.slots[0, :, PRESENCE] > REMEMBERED
        area = torch.where(seen, state.slots[0, :, 2] * state.slots[0, :, 3], 0.0)
        slot = int(area.argmax())
        if area[slot] < LEAST_AREA:
            continue
        box = state.slots[:, slot, :4]
        aside = MOVE if box[0, 0] < 0.5 else (-MOVE[0], MOVE[1])
        action = int(clips.actions(window, 1)[-1])
        plain = world.step(state, action)[1].frame[0].astype(np.float64)
        for move in (aside, None):
            edited = world.edit(state, slot, move=move, remove=move is None)
            change = np.abs(world.step(edited, action)[1].frame[0] - plain).mean(axis=-1)
            place = inside(_grown(box), state.picture)[0, 0]
            if move is not None:
                place = place | inside(_grown(box, move), state.picture)[0, 0]
            mine = place.cpu().numpy()
            outside.append(change[~mine].mean())
            within.append(change[mine].mean())
            units.append(window.unit)
    return ratio(outside, within, units).graded()


def _probe(world: "World", clips: Clips, library: Library) -> dict[str, Graded]:
    """Each half of the recordings is graded with a field that was taught on the other one."""
    known = [f for f in library.footage if f.index in clips.truths]
    objects = world.objects
    assert objects is not None
    if len(known) < 2:
        return dict.fromkeys(KEYS[:3], missing("a probe needs recordings to learn from"))
    graders: list[Finder] = []
    for half in (0, 1):
        others = known[1 - half :: 2]
        step = max(1, sum(len(f.frames) for f in others) // PROBE_FRAMES)
        taught = teach(
            world,
            objects,
            [f.frames[::step] for f in others],
            [clips.truths[f.index][::step] for f in others],
        )
        graders.append(Slots(world, taught))
    place = {f.index: i % 2 for i, f in enumerate(known)}
    return clips.grade(_Either(graders, [place[w.footage.index] for w in clips.windows]))


class _Either:
    """One finder or the other, clip by clip."""

    def __init__(self, finders: Sequence[Finder], turns: Sequence[int]) -> None:
        self._finders, self._turns = finders, iter(turns)

    def find(self, frames: npt.NDArray[np.uint8], actions: npt.NDArray[np.int64]) -> Floats:
        return self._finders[next(self._turns)].find(frames, actions)


def _grown(box: torch.Tensor, move: tuple[float, float] = (0.0, 0.0)) -> torch.Tensor:
    """A box with what moves in a tick around it, and moved."""
    return box + box.new_tensor([*move, 0.06, 0.06])


def _explained(share: Graded) -> Graded:
    """1 - a ratio, with its interval."""
    value, low, high = (share[k] for k in ("value", "lo", "hi"))
    turned: Graded = {
        key: 1 - float(x) if isinstance(x, float) else None
        for key, x in (("value", value), ("lo", high), ("hi", low))
    }
    return {**share, **turned}


def _mean(values: Floats) -> float:
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else float("nan")
