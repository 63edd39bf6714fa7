"""From a folder of videos to a world folder: the one place where the stages meet.

videos -> cache of small frames -> tokenizer -> latents -> latent actions -> codes of all footage
-> dynamics -> world folder with card. With labelled actions, the two steps in the middle fall away.
"""

import shutil
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from worldsim.bindings import bind_by_motion, bound
from worldsim.codes import infer_codes
from worldsim.dynamics.latent_actions import LatentActions
from worldsim.folder import WorldConfig, find_world, read_config, write_world
from worldsim.motion import motion_of_codes
from worldsim.tokenizer import Tokenizer
from worldsim.training.actions_stage import ActionsStage
from worldsim.training.begin import begin_model, continued, new_config, prepare_footage
from worldsim.training.card import write_card
from worldsim.training.device import device_of
from worldsim.training.dynamics_stage import DynamicsStage
from worldsim.training.few import fit_bindings
from worldsim.training.footage import (
    Footage,
    write_start,
)
from worldsim.training.latents import encode_footage
from worldsim.training.lock import disk_errors, locked
from worldsim.training.loop import Care, fit, measure_rate
from worldsim.training.plan import Plan, Shares, plan_from_minutes, plan_from_steps, read_plan
from worldsim.training.presets import PRESETS, Batches, Preset
from worldsim.training.say import say
from worldsim.training.streams import Streams
from worldsim.training.strips import Strips
from worldsim.training.tokenizer_stage import TokenizerStage
from worldsim.world import WorldModel

Latents = list[NDArray[np.float16]]  # (T, P, C) per episode
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
    tokenizer_share: float | None = None,
    strict: bool = False,
    checkpoint_every: float = Care.checkpoint_every,
) -> Path:
    """Train a world on a folder of videos; returns the world folder, OUT/world.

    `actions` are learned from the frames alone; or labelled, read from side files; or learned,
    with the meaning of the codes from a few labelled frames in the folder `labels`.

    The plan is fixed at the start, from `minutes` or `steps`, and `tokenizer_share` of it goes to
    the tokenizer. `init` continues from a world, whose latents and learned codes stay what they
    are. `size` is (H, W) in pixels. What is not given is picked, by the footage or by the
    `preset`, and said.

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
    if preset not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {preset!r}")
    run = Path(out)
    care = Care(resume=resume, strict=strict, checkpoint_every=checkpoint_every)
    with disk_errors(run), locked(run):
        if not resume:
            set_aside(run)
        torch.manual_seed(seed)
        base = read_config(find_world(init)) if init else None
        learn, known = actions != "labelled", base is not None and base.learned_actions
        footage = prepare_footage(Path(videos), run, base, PRESETS[preset], size, is_learned=learn)
        if base:
            config = continued(base, is_learned=learn)
        else:
            config = new_config(footage, PRESETS[preset], name or run.name)
        model = begin_model(config, init, base)
        given = PRESETS[preset].tokenizer_share if tokenizer_share is None else tokenizer_share
        new_codes = PRESETS[preset].actions_share if learn and not known else 0.0
        shares = Shares(tokenizer=given, actions=new_codes)
        world = _Run(run, footage, config, PRESETS[preset], model.to(device), seed).train(
            minutes, steps, shares, care
        )
        if labels is not None:
            fit = fit_bindings(world, Path(labels), run / "cache")
            say(f"bindings from {fit.labels} labels: {_listed(fit.bindings)}")
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


@dataclass(frozen=True)
class _Run:
    """One run of all stages over the same footage."""

    run: Path
    footage: Footage
    config: WorldConfig
    preset: Preset
    model: WorldModel
    seed: int

    def train(self, minutes: float | None, steps: int | None, shares: Shares, care: Care) -> Path:
        started = time.time()
        if care.resume and (self.run / "plan.json").exists():
            plan = read_plan(self.run)
        elif steps is not None:
            plan = plan_from_steps(steps, shares)
        else:
            plan = self._measured_plan(minutes or self.preset.minutes, shares)
        plan.write(self.run)
        say(f"plan: {plan.described()}")
        tokenizer, dynamics = self.model.tokenizer, self.model.dynamics
        strips = Strips(self.run, self.footage, self.config)
        if plan.tokenizer_steps:
            averaged = fit(
                self._tokenizer_stage(tokenizer),
                steps=plan.tokenizer_steps,
                run=self.run,
                care=care,
                watch=strips.tokenizer,
            )
            tokenizer.load_state_dict(averaged.state_dict())
        latents = encode_footage(tokenizer, self.footage, self.run / "latents")
        told = self._learn_actions(plan, latents, care)
        if plan.dynamics_steps:
            strips = Strips(self.run, told.footage, told.config)
            averaged = fit(
                told._dynamics_stage(self.model, latents),
                steps=plan.dynamics_steps,
                run=self.run,
                care=care,
                watch=lambda model, step: strips.dynamics(tokenizer, model, step),
            )
            dynamics.load_state_dict(averaged.state_dict())
        return told._write(plan, time.time() - started)

    def _learn_actions(self, plan: Plan, latents: Latents, care: Care) -> Self:
        """This run with the codes of all footage, and controls bound to them if they are new; as
        it is, if its actions are labelled."""
        encoder = self.model.actions
        if encoder is None:
            return self
        if plan.actions_steps:
            stage = self._actions_stage(self.model.tokenizer, latents)
            stage.model.encoder.load_state_dict(encoder.state_dict())
            averaged = fit(stage, steps=plan.actions_steps, run=self.run, care=care)
            stage.model.load_state_dict(averaged.state_dict())
            encoder.load_state_dict(stage.model.encoder.state_dict())
        codes = []
        for frames, z in zip(self.footage.frames, latents, strict=True):
            found = infer_codes(encoder, frames, torch.from_numpy(np.array(z)))
            codes.append(np.concatenate([[-1], found]))
        config = self.config
        if plan.actions_steps:
            motions = motion_of_codes(self.footage.frames, codes, len(config.actions))
            config = bound(config, bind_by_motion(motions))
            say(f"controls, by how the codes move the picture: {_listed(config.bindings)}")
        return replace(self, footage=replace(self.footage, actions=codes), config=config)

    def _measured_plan(self, minutes: float, shares: Shares) -> Plan:
        """Time a few updates of throw-away copies of the stages."""
        shape = (self.config.tokenizer.num_tokens, self.config.tokenizer.channels)
        one = np.ones((), dtype=np.float16)
        latents = [np.broadcast_to(one, (len(f), *shape)) for f in self.footage.frames]
        with torch.random.fork_rng():  # what follows must not depend on whether this was needed
            trial = WorldModel(self.config).to(device_of(self.model))
            tokenizer = measure_rate(self._tokenizer_stage(trial.tokenizer))
            dynamics = measure_rate(self._dynamics_stage(trial, latents))
            actions = 0.0
            if shares.actions:
                actions = measure_rate(self._actions_stage(trial.tokenizer, latents))
        return plan_from_minutes(minutes, shares, (tokenizer, actions, dynamics))

    def _tokenizer_stage(self, model: Tokenizer) -> TokenizerStage:
        streams = self._streams([self.footage.frames], self.preset.tokenizer_batches)
        # a world that is continued has a dynamics, which is lost on other latents
        return TokenizerStage(model, streams, keep_latents=bool(self.config.training))

    def _actions_stage(self, tokenizer: Tokenizer, latents: Latents) -> ActionsStage:
        streams = self._streams([self.footage.frames, latents], self.preset.actions_batches)
        model = LatentActions(self.config.dynamics).to(device_of(tokenizer))
        return ActionsStage(model, tokenizer, streams)

    def _dynamics_stage(self, model: WorldModel, latents: Latents) -> DynamicsStage:
        sources: list[Any] = [self.footage.frames, latents, self.footage.actions]
        streams = self._streams(sources, self.preset.dynamics_batches)
        return DynamicsStage(model.dynamics, model.tokenizer, streams)

    def _streams(self, sources: list[Any], batches: Batches) -> Streams:
        label = self.footage.fingerprint
        return Streams(sources, **asdict(batches), seed=self.seed, footage=label)

    def _write(self, plan: Plan, seconds: float) -> Path:
        entry = {
            "frames": self.footage.num_frames,
            "hours": round(seconds / 3600, 2),
            "threads": torch.get_num_threads(),
            "command": " ".join(Path(a).name if i == 0 else a for i, a in enumerate(sys.argv)),
            **asdict(plan),
        }
        history = [*self.config.training.get("history", []), entry]
        start, led = self.footage.start_scene()
        # figures of the world that this one continues are not figures of this one
        kept = {k: v for k, v in self.config.training.items() if k != "measured"}
        config = replace(self.config, start_actions=led, training={**kept, "history": history})
        folder = self.run / "world"
        write_world(folder, config, self.model)
        write_start(folder / "start.mkv", start, config.fps)
        write_card(folder, config)
        say(f"world: {folder}")
        return folder


def _listed(bindings: dict[str, int]) -> str:
    return ", ".join(f"{control}={code}" for control, code in bindings.items())
