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

from worldsim.dynamics import DynamicsConfig
from worldsim.errors import DataError, WorldsimError
from worldsim.folder import WorldConfig, find_world, read_config, read_weights, write_world
from worldsim.tokenizer import Tokenizer, TokenizerConfig, to_pixels
from worldsim.training.card import write_card
from worldsim.training.dynamics_stage import DynamicsStage
from worldsim.training.footage import Footage, read_footage, write_start
from worldsim.training.lock import locked
from worldsim.training.loop import Care, fit, measure_rate
from worldsim.training.plan import (
    TOKENIZER_SHARE,
    Plan,
    plan_from_minutes,
    plan_from_steps,
    read_plan,
)
from worldsim.training.say import say
from worldsim.training.streams import Streams
from worldsim.training.tokenizer_stage import TokenizerStage
from worldsim.world import WorldModel

ENCODE_BATCH = 64  # frames
EARLIER = ("checkpoints", "metrics.jsonl", "plan.json", "diagnostics.json", "strips")


@dataclass(frozen=True, kw_only=True)
class Batches:
    """How much one update sees: lanes side by side, ticks in a row."""

    lanes: int
    ticks: int
    jump: float  # chance per chunk that a lane goes elsewhere


TOKENIZER_BATCHES = Batches(lanes=8, ticks=4, jump=0.15)
DYNAMICS_BATCHES = Batches(lanes=8, ticks=24, jump=0.04)


def train(
    videos: str | Path,
    out: str | Path,
    *,
    minutes: float | None = None,
    steps: int | None = None,
    actions: Literal["labelled"] = "labelled",
    init: str | Path | None = None,
    size: tuple[int, int] | None = None,
    device: str = "cpu",
    resume: bool = False,
    seed: int = 0,
    name: str | None = None,
    tokenizer_share: float = TOKENIZER_SHARE,
    strict: bool = False,
    checkpoint_every: float = Care.checkpoint_every,
) -> Path:
    """Train a world on a folder of videos; returns the world folder, OUT/world.

    The plan is fixed at the start, from `minutes` (default 60) or `steps`, and `tokenizer_share`
    of it goes to the tokenizer. `init` continues from a world. `size` is (H, W) in pixels.
    `resume` goes on from the newest checkpoint that holds, saved every `checkpoint_every` seconds;
    with `strict` a damaged one ends the run instead. What an earlier run left in `out` is put into
    OUT/before if this one does not resume it.

    Raises DataError if nothing in `videos` can be used, CheckpointError if a checkpoint cannot,
    TrainingError if the loss is no number any more, WorldsimError if `out` is in use.
    """
    if actions != "labelled":
        raise WorldsimError(f"actions must be 'labelled' for now, got {actions!r}")
    run = Path(out)
    run.mkdir(parents=True, exist_ok=True)
    care = Care(resume=resume, strict=strict, checkpoint_every=checkpoint_every)
    with locked(run):
        if not resume:
            set_aside(run)
        torch.manual_seed(seed)
        base = read_config(find_world(init)) if init else None
        tokenizer_config = base.tokenizer if base else _tokenizer_config(size)
        footage = read_footage(
            Path(videos), (tokenizer_config.height, tokenizer_config.width), run / "cache"
        )
        config = base or _new_config(footage, tokenizer_config, name or run.name)
        model = WorldModel(config)
        if init:
            read_weights(find_world(init), model)
        return _Run(run, footage, config, model.to(device), seed).train(
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


class _Run:
    """One run of all stages over the same footage."""

    def __init__(
        self, run: Path, footage: Footage, config: WorldConfig, model: WorldModel, seed: int
    ) -> None:
        self.run, self.footage, self.config, self.model, self.seed = (
            run, footage, config, model, seed,
        )  # fmt: skip

    def train(
        self, minutes: float | None, steps: int | None, tokenizer_share: float, care: Care
    ) -> Path:
        started = time.time()
        if care.resume and (self.run / "plan.json").exists():
            plan = read_plan(self.run)
        elif steps is not None:
            plan = plan_from_steps(steps, tokenizer_share=tokenizer_share)
        else:
            plan = self._measured_plan(minutes or 60.0, tokenizer_share)
        plan.write(self.run)
        say(f"plan: {plan.tokenizer_steps} tokenizer updates, {plan.dynamics_steps} dynamics")
        if plan.tokenizer_steps:
            stage = self._tokenizer_stage(self.model.tokenizer)
            averaged = fit(stage, steps=plan.tokenizer_steps, run=self.run, care=care)
            self.model.tokenizer.load_state_dict(averaged.state_dict())
        if plan.dynamics_steps:
            latents = encode_footage(self.model.tokenizer, self.footage, self.run / "latents")
            dynamics = self._dynamics_stage(self.model, latents)
            averaged = fit(dynamics, steps=plan.dynamics_steps, run=self.run, care=care)
            self.model.dynamics.load_state_dict(averaged.state_dict())
        return self._write(plan, time.time() - started)

    def _measured_plan(self, minutes: float, tokenizer_share: float) -> Plan:
        """Time a few updates of throw-away copies of the two stages."""
        trial = WorldModel(self.config)
        shape = (self.config.tokenizer.num_tokens, self.config.tokenizer.channels)
        latents = [np.ones((len(f), *shape), dtype=np.float16) for f in self.footage.frames[:1]]
        return plan_from_minutes(
            minutes,
            tokenizer_rate=measure_rate(self._tokenizer_stage(trial.tokenizer)),
            dynamics_rate=measure_rate(self._dynamics_stage(trial, latents)),
            tokenizer_share=tokenizer_share,
        )

    def _tokenizer_stage(self, model: Tokenizer) -> TokenizerStage:
        return TokenizerStage(model, self._streams([self.footage.frames], TOKENIZER_BATCHES))

    def _dynamics_stage(
        self, model: WorldModel, latents: list[NDArray[np.float16]]
    ) -> DynamicsStage:
        """Over as many episodes as there are `latents`."""
        part = slice(len(latents))
        sources: list[Any] = [self.footage.frames[part], latents, self.footage.actions[part]]
        streams = self._streams(sources, DYNAMICS_BATCHES)
        return DynamicsStage(model.dynamics, model.tokenizer, streams)

    def _streams(self, sources: list[Any], batches: Batches) -> Streams:
        return Streams(sources, **asdict(batches), seed=self.seed)

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


@torch.inference_mode()
def encode_footage(
    tokenizer: Tokenizer, footage: Footage, directory: Path
) -> list[NDArray[np.float16]]:
    """Latents (T, P, C) of every episode, 16 bits, kept in memory-mapped files of `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = tokenizer.eval()
    device = next(tokenizer.parameters()).device
    latents = []
    for i, frames in enumerate(footage.frames):
        parts = []
        for begin in range(0, len(frames), ENCODE_BATCH):
            batch = torch.from_numpy(np.array(frames[begin : begin + ENCODE_BATCH])).to(device)
            parts.append(tokenizer.encode(to_pixels(batch)[None])[0].half().cpu().numpy())
        path = directory / f"{i:05d}.npy"
        np.save(path, np.concatenate(parts))
        latents.append(np.load(path, mmap_mode="r"))
    return latents


def _tokenizer_config(size: tuple[int, int] | None) -> TokenizerConfig:
    if size is None:
        return TokenizerConfig()
    return TokenizerConfig(height=size[0], width=size[1])


def _new_config(footage: Footage, tokenizer: TokenizerConfig, name: str) -> WorldConfig:
    if not footage.controls:
        raise DataError("no side files with controls: labelled training needs NAME.jsonl files")
    rows, columns = tokenizer.grid
    dynamics = DynamicsConfig(
        rows=rows,
        columns=columns,
        channels=tokenizer.channels,
        num_actions=len(footage.controls),
    )
    return WorldConfig(
        name=name,
        fps=footage.fps,
        actions=list(footage.controls),
        bindings={control: i for i, control in enumerate(footage.controls)},
        tokenizer=tokenizer,
        dynamics=dynamics,
    )
