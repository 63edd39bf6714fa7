"""From a folder of videos to a world folder: what `worldsim train` calls."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from worldsim.bindings import listed
from worldsim.errors import ArgumentError
from worldsim.folder import WorldConfig, find_world, read_config
from worldsim.runtime import find_device
from worldsim.training import distributed, trackers
from worldsim.training.begin import (
    begin_features,
    begin_model,
    continued,
    featured,
    new_config,
    prepare_footage,
    refuse_without_codes,
    with_sound,
)
from worldsim.training.consistency import Kind
from worldsim.training.course import Course
from worldsim.training.few import fit_bindings
from worldsim.training.footage import Footage
from worldsim.training.lock import disk_errors, locked
from worldsim.training.loop import Care
from worldsim.training.plan import STAGES
from worldsim.training.request import Actions, Request
from worldsim.training.say import say
from worldsim.training.sound_stage import read_sound

EARLIER = (
    "checkpoints",
    "metrics.jsonl",
    "plan.json",
    "diagnostics.json",
    "strips",
    "tensorboard",
    "wandb",
)


def train(
    videos: str | Path,
    out: str | Path,
    *,
    minutes: float | None = None,
    steps: int | None = None,
    actions: Actions = "learned",
    labels: str | Path | None = None,
    init: str | Path | None = None,
    preset: str = "default",
    size: tuple[int, int] | None = None,
    device: str = "cpu",
    resume: bool = False,
    seed: int = 0,
    name: str | None = None,
    stages: Sequence[str] | None = None,
    strict: bool = False,
    checkpoint_every: float = Care.checkpoint_every,
    features: str | None = None,
    consistency: Kind | Literal["off"] = "off",
    track: trackers.Kind | None = None,
) -> Path:
    """Train a world on a folder of videos; returns the world folder, OUT/world.

    `actions` are learned from the frames alone; or labelled, read from side files; or learned,
    with the meaning of the codes from a few labelled frames in the folder `labels`.

    The plan is fixed at the start, from `minutes` or `steps`, which the `preset` splits between
    the `stages`, all that there is something to learn for, if not given. `init` continues from a
    world, whose latents stay what they are, as do its learned codes if the stage "actions" is not
    asked for; where it is, the other stages have to follow. `size` is (H, W) in pixels. What is
    not given is picked, by the footage or by the `preset`, and said.

    `features` is where phi (tokenizer/features.py) comes from: a file, a folder or hub name of a
    vision transformer, "own" for one that learns from the footage, or, if not given, the converted
    EfficientNet-Lite0; where that is not there and phi is needed, it learns from the footage. It
    teaches the stage "features", which gives the world its alarm, and which runs unasked only with
    a phi that need not be learned; and it judges the `consistency` of what the dynamics samples.

    `resume` goes on from the newest checkpoint that holds, saved every `checkpoint_every` seconds;
    with `strict` a damaged one ends the run instead. What an earlier run left in `out` is put into
    OUT/before if this one does not resume it. `track`: tensorboard, trackio or wandb is told what
    OUT/metrics.jsonl is told.

    Raises DataError if nothing in `videos` can be used, CheckpointError if a checkpoint cannot,
    TrainingError if the loss is no number any more, WorldsimError if `out` is in use, MachineError
    if the disk does not take what is written, or if there is nobody to `track`.
    """
    request = Request(
        videos=Path(videos),
        run=Path(out),
        actions=actions,
        labels=Path(labels) if labels is not None else None,
        init=init,
        preset_name=preset,
        size=size,
        device=device,
        seed=seed,
        minutes=minutes,
        steps=steps,
        name=name,
        stages=stages,
        features=features,
        consistency=consistency,
    )
    find_device(request.device)
    if track is not None:
        trackers.package(track)
    care = Care(resume=resume, strict=strict, checkpoint_every=checkpoint_every)
    with distributed.processes(), disk_errors(request.run), _alone(request.run):
        torch.manual_seed(seed)
        course, shares = begin(request)
        if not resume:  # not before all of the above is known to be right
            _make_room(request.run)
        elif not (request.run / "plan.json").exists():
            say(f"{request.run}: no run to go on with, so one begins")
        elif minutes is not None or steps is not None:
            say(f"{request.run}: goes on with its own plan; minutes and steps are for a new run")
        plan = course.plan(minutes, steps, shares, resume=resume)
        say(f"plan: {plan.described()}")
        with trackers.tracking(track, request.run) as tracker:
            world = course.train(plan, replace(care, tracker=tracker))
        if request.labels is not None and distributed.rank() == 0:
            fit = fit_bindings(world, request.labels, request.run / "cache")
            say(f"bindings from {fit.labels} labels: {listed(fit.bindings)}")
        return world


@contextmanager
def _alone(run: Path) -> Iterator[None]:
    """No other run is in `run`."""
    with locked(run) if distributed.rank() == 0 else nullcontext():
        distributed.wait()
        yield


def _make_room(run: Path) -> None:
    """Nothing of an earlier run is in `run`, for any process of this one."""
    if distributed.rank() == 0:
        set_aside(run)
    distributed.wait()


def begin(request: Request) -> tuple[Course, dict[str, float]]:
    """Footage, settings and networks of a run, and how its stages share the updates."""
    base = read_config(find_world(request.init)) if request.init else None
    with distributed.first_alone():
        footage = prepare_footage(
            request.videos,
            request.run,
            base,
            request.preset,
            request.size,
            is_learned=request.learns_actions,
        )
        config = settings(request, base, footage)
        sound = None
        learns_codes = request.learns_actions and request.may("actions")
        if request.may("sound") or (learns_codes and config.sound is not None):  # which hear it
            sound = read_sound(footage, with_sound(config), request.run / "cache")
        if sound is not None:
            config = with_sound(config)
        needed = request.judged is not None or request.asks_for("features")
        phi = begin_features(request.features, footage, request.run, request.preset, needed=needed)
    knows_codes = base is not None and base.learned_actions
    useless = {
        "actions": not request.learns_actions or (knows_codes and not request.asks_for("actions")),
        "objects": config.objects is None,
        "sound": sound is None,
        "features": phi is None,
    }
    shares = _shares(request, useless)
    if phi is not None and "features" in shares:
        config = featured(config, phi)
    course = Course(
        request.run,
        footage,
        config,
        request.preset,
        begin_model(config, request.init, base).to(request.device),
        request.seed,
        sound=sound,
        phi=phi.to(request.device) if phi is not None else None,
        consistency=request.judged,
        continues=base is not None,
    )
    return course, shares


def settings(request: Request, base: WorldConfig | None, footage: Footage) -> WorldConfig:
    """Of a new world, or of one that continues `base`, with the parts that were asked for."""
    if base:
        config = continued(base, is_learned=request.learns_actions)
    else:
        config = new_config(footage, request.preset, request.name or request.run.name)
    has_objects = request.may("objects") if not base else request.asks_for("objects")
    if has_objects and config.objects is None:
        config = replace(config, objects=request.preset.objects)
    refuse_without_codes(config, request.judged)
    return replace(config, keyframes=config.keyframes or request.preset.keyframes)


def set_aside(run: Path) -> None:
    """Move what an earlier run left in `run` to RUN/before: two runs in one curve are no curve."""
    old = [run / name for name in EARLIER if (run / name).exists()]
    if not old:
        return
    before = run / "before"
    shutil.rmtree(before, ignore_errors=True)
    before.mkdir()
    for path in old:
        path.rename(before / path.name)
    say(f"{run}: an earlier run is now in {before}; --resume would have gone on with it")


def _shares(request: Request, useless: dict[str, bool]) -> dict[str, float]:
    """Of the stages that are asked for, and of use."""
    useful = [stage for stage in STAGES if not useless.get(stage, False)]
    shares = {stage: request.preset.shares[stage] for stage in useful if request.may(stage)}
    if not shares:
        raise ArgumentError("stages: there is nothing to learn in those that were asked for")
    return shares
