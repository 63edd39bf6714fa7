"""From a folder of videos to a world folder: the one place where the stages meet.

videos -> cache of small frames -> tokenizer -> latents -> dynamics -> world folder with card
"""

import shutil
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from worldsim.errors import WorldsimError
from worldsim.folder import WorldConfig, find_world, read_config, read_weights, write_world
from worldsim.tokenizer import Tokenizer
from worldsim.training.card import write_card
from worldsim.training.dynamics_stage import DynamicsStage
from worldsim.training.footage import (
    Footage,
    look,
    pick_rate,
    pick_size,
    read_footage,
    write_start,
)
from worldsim.training.labels import only_labelled, read_labels
from worldsim.training.latents import encode_footage
from worldsim.training.lock import disk_errors, locked
from worldsim.training.loop import Care, fit, measure_rate
from worldsim.training.plan import Plan, plan_from_minutes, plan_from_steps, read_plan
from worldsim.training.presets import PRESETS, Batches, Preset
from worldsim.training.say import say
from worldsim.training.streams import Streams
from worldsim.training.strips import Strips
from worldsim.training.tokenizer_stage import TokenizerStage
from worldsim.world import WorldModel

EARLIER = ("checkpoints", "metrics.jsonl", "plan.json", "diagnostics.json", "strips")


def train(
    videos: str | Path,
    out: str | Path,
    *,
    minutes: float | None = None,
    steps: int | None = None,
    actions: Literal["labelled"] = "labelled",
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

    The plan is fixed at the start, from `minutes` or `steps`, and `tokenizer_share` of it goes to
    the tokenizer. `init` continues from a world, whose latents stay what they are. `size` is
    (H, W) in pixels. What is not given is picked, by the footage or by the `preset`, and said.

    `resume` goes on from the newest checkpoint that holds, saved every `checkpoint_every` seconds;
    with `strict` a damaged one ends the run instead. What an earlier run left in `out` is put into
    OUT/before if this one does not resume it.

    Raises DataError if nothing in `videos` can be used, CheckpointError if a checkpoint cannot,
    TrainingError if the loss is no number any more, WorldsimError if `out` is in use, MachineError
    if the disk does not take what is written.
    """
    if actions != "labelled":
        raise WorldsimError(f"actions must be 'labelled' for now, got {actions!r}")
    if preset not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {preset!r}")
    run = Path(out)
    care = Care(resume=resume, strict=strict, checkpoint_every=checkpoint_every)
    with disk_errors(run), locked(run):
        if not resume:
            set_aside(run)
        torch.manual_seed(seed)
        base = read_config(find_world(init)) if init else None
        footage = _footage(Path(videos), run, base, PRESETS[preset], size)
        config = base or _new_config(footage, PRESETS[preset], name or run.name)
        model = WorldModel(config)
        if init:
            read_weights(find_world(init), model)
        return _Run(run, footage, config, PRESETS[preset], model.to(device), seed).train(
            minutes, steps, tokenizer_share, care
        )


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

    def train(
        self, minutes: float | None, steps: int | None, tokenizer_share: float | None, care: Care
    ) -> Path:
        started = time.time()
        share = self.preset.tokenizer_share if tokenizer_share is None else tokenizer_share
        if care.resume and (self.run / "plan.json").exists():
            plan = read_plan(self.run)
        elif steps is not None:
            plan = plan_from_steps(steps, tokenizer_share=share)
        else:
            plan = self._measured_plan(minutes or self.preset.minutes, share)
        plan.write(self.run)
        say(f"plan: {plan.tokenizer_steps} tokenizer updates, {plan.dynamics_steps} dynamics")
        strips = Strips(self.run, self.footage, self.config)
        tokenizer, dynamics = self.model.tokenizer, self.model.dynamics
        if plan.tokenizer_steps:
            averaged = fit(
                self._tokenizer_stage(tokenizer),
                steps=plan.tokenizer_steps,
                run=self.run,
                care=care,
                watch=strips.tokenizer,
            )
            tokenizer.load_state_dict(averaged.state_dict())
        if plan.dynamics_steps:
            latents = encode_footage(tokenizer, self.footage, self.run / "latents")
            averaged = fit(
                self._dynamics_stage(self.model, latents),
                steps=plan.dynamics_steps,
                run=self.run,
                care=care,
                watch=lambda model, step: strips.dynamics(tokenizer, model, step),
            )
            dynamics.load_state_dict(averaged.state_dict())
        return self._write(plan, time.time() - started)

    def _measured_plan(self, minutes: float, tokenizer_share: float) -> Plan:
        """Time a few updates of throw-away copies of the two stages."""
        shape = (self.config.tokenizer.num_tokens, self.config.tokenizer.channels)
        one = np.ones((), dtype=np.float16)
        latents = [np.broadcast_to(one, (len(f), *shape)) for f in self.footage.frames]
        with torch.random.fork_rng():  # what follows must not depend on whether this was needed
            trial = WorldModel(self.config)
            tokenizer_rate = measure_rate(self._tokenizer_stage(trial.tokenizer))
            dynamics_rate = measure_rate(self._dynamics_stage(trial, latents))
        return plan_from_minutes(
            minutes,
            tokenizer_rate=tokenizer_rate,
            dynamics_rate=dynamics_rate,
            tokenizer_share=tokenizer_share,
        )

    def _tokenizer_stage(self, model: Tokenizer) -> TokenizerStage:
        streams = self._streams([self.footage.frames], self.preset.tokenizer_batches)
        # a world that is continued has a dynamics, which is lost on other latents
        return TokenizerStage(model, streams, keep_latents=bool(self.config.training))

    def _dynamics_stage(
        self, model: WorldModel, latents: list[NDArray[np.float16]]
    ) -> DynamicsStage:
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


def _footage(
    videos: Path,
    run: Path,
    base: WorldConfig | None,
    preset: Preset,
    size: tuple[int, int] | None,
) -> Footage:
    """What is in `videos`, at the size and rate of `base`, or at those that fit it best."""
    found = only_labelled(look(videos))
    fps = base.fps if base else pick_rate(found)
    if base:
        size = (base.tokenizer.height, base.tokenizer.width)
    elif size is None:
        size = pick_size(found, preset.tokenizer.num_tokens)
    ticks = max(preset.tokenizer_batches.ticks, preset.dynamics_batches.ticks)
    footage = read_footage(found, size, fps, run / "cache", min_frames=ticks + 2)
    footage = read_labels(footage)
    minutes = footage.num_frames / fps / 60
    say(
        f"footage: {len(footage.frames)} of {len(found)} videos, {footage.num_frames} frames, "
        f"{minutes:.1f} min, at {size[1]}x{size[0]} and {fps:g} Hz"
    )
    return footage


def _new_config(footage: Footage, preset: Preset, name: str) -> WorldConfig:
    height, width = footage.frames[0].shape[1:3]
    tokenizer = replace(preset.tokenizer, height=height, width=width)
    rows, columns = tokenizer.grid
    return WorldConfig(
        name=name,
        fps=footage.fps,
        actions=list(footage.controls),
        bindings={control: i for i, control in enumerate(footage.controls)},
        tokenizer=tokenizer,
        dynamics=replace(
            preset.dynamics, rows=rows, columns=columns, num_actions=len(footage.controls)
        ),
    )
