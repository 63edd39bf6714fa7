"""From a folder of videos to a world folder: what `worldsim train` calls."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import torch

from worldsim.bindings import listed
from worldsim.folder import find_world, read_config
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
from worldsim.training.keyframes_stage import KEPT
from worldsim.training.lock import disk_errors, locked
from worldsim.training.loop import Care
from worldsim.training.plan import STAGES
from worldsim.training.presets import PRESETS
from worldsim.training.say import say
from worldsim.training.sound_stage import read_sound

Actions = Literal["learned", "labelled", "few"]
EARLIER = ("checkpoints", "metrics.jsonl", "plan.json", "diagnostics.json", "strips")


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
) -> Path:
    """Train a world on a folder of videos; returns the world folder, OUT/world.

    `actions` are learned from the frames alone; or labelled, read from side files; or learned,
    with the meaning of the codes from a few labelled frames in the folder `labels`.

    The plan is fixed at the start, from `minutes` or `steps`, which the `preset` splits between
    the `stages`, all that there is something to learn for, if not given (keyframes only in a world
    that has some; asked for, they are new). `init` continues from a
    world, whose latents and learned codes stay what they are. `size` is (H, W) in pixels. What is
    not given is picked, by the footage or by the `preset`, and said.

    `features` is where phi (tokenizer/features.py) comes from: a file, a folder or hub name of a
    vision transformer, "own" for one that learns from the footage, or, if not given, the converted
    EfficientNet-Lite0; where that is not there and phi is needed, it learns from the footage. It
    teaches the stage "features", which gives the world its alarm, and which runs unasked only with
    a phi that need not be learned; and it judges the `consistency` of what the dynamics samples.

    `resume` goes on from the newest checkpoint that holds, saved every `checkpoint_every` seconds;
    with `strict` a damaged one ends the run instead. What an earlier run left in `out` is put into
    OUT/before if this one does not resume it.

    Raises DataError if nothing in `videos` can be used, CheckpointError if a checkpoint cannot,
    TrainingError if the loss is no number any more, WorldsimError if `out` is in use, MachineError
    if the disk does not take what is written.
    """
    if actions not in get_args(Actions):
        raise ValueError(f"actions must be one of {', '.join(get_args(Actions))}, got {actions!r}")
    if (actions == "few") != (labels is not None):
        raise ValueError("labels is a folder of recordings, for actions='few' and only for that")
    if consistency not in (*get_args(Kind), "off"):
        raise ValueError(f"consistency must be matched, band, naive or off, got {consistency!r}")
    if preset not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {preset!r}")
    for stage in stages or ():
        if stage not in STAGES:
            raise ValueError(f"stages must be among {', '.join(STAGES)}, got {stage!r}")
    run = Path(out)
    care = Care(resume=resume, strict=strict, checkpoint_every=checkpoint_every)
    with disk_errors(run), locked(run):
        if not resume:
            set_aside(run)
        torch.manual_seed(seed)
        base = read_config(find_world(init)) if init else None
        learn = actions != "labelled"
        footage = prepare_footage(Path(videos), run, base, PRESETS[preset], size, is_learned=learn)
        if base:
            config = continued(base, is_learned=learn)
        else:
            config = new_config(footage, PRESETS[preset], name or run.name)
        refuse_without_codes(config, stages or (), consistency)
        if "objects" in (stages or (() if base else STAGES)) and config.objects is None:
            config = replace(config, objects=PRESETS[preset].objects)
        if "keyframes" in (stages or ()) and not config.keyframes:
            config = replace(config, keyframes=KEPT)
        sound = None
        if stages is None or "sound" in stages:
            sound = read_sound(footage, with_sound(config), run / "cache")
        if sound is not None:
            config = with_sound(config)
        judged = consistency != "off" and (stages is None or "dynamics" in stages)
        needed = judged or (stages is not None and "features" in stages)
        phi = begin_features(features, footage, run, PRESETS[preset], needed=needed)
        useless = {
            "actions": not learn or (base is not None and base.learned_actions),
            "objects": config.objects is None,
            "keyframes": not config.keyframes,
            "sound": sound is None,
            "features": phi is None,
        }
        shares = _shares(PRESETS[preset].shares, stages, useless)
        if phi is not None and "features" in shares:
            config = featured(config, phi)
        model = begin_model(config, init, base)
        course = Course(
            run,
            footage,
            config,
            PRESETS[preset],
            model.to(device),
            seed,
            sound=sound,
            phi=phi,
            consistency=None if consistency == "off" else consistency,
        )
        plan = course.plan(minutes, steps, shares, resume=resume)
        say(f"plan: {plan.described()}")
        world = course.train(plan, care)
        if labels is not None:
            fit = fit_bindings(world, Path(labels), run / "cache")
            say(f"bindings from {fit.labels} labels: {listed(fit.bindings)}")
        return world


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


def _shares(
    given: dict[str, float], stages: Sequence[str] | None, useless: dict[str, bool]
) -> dict[str, float]:
    """Of the stages that are asked for, and of use."""
    useful = [stage for stage in STAGES if not useless.get(stage, False)]
    shares = {stage: given[stage] for stage in useful if stages is None or stage in stages}
    if not shares:
        raise ValueError("stages: there is nothing to learn in those that were asked for")
    return shares
