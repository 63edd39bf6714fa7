"""The stages of a run, one after the other, over the same footage.

cache of small frames -> tokenizer -> latents -> latent actions -> codes of all footage -> dynamics
-> world folder with card. With labelled actions, the two steps in the middle fall away.
"""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from worldsim.bindings import bind_by_motion, bound, listed
from worldsim.codes import find_holds, hold, infer_codes
from worldsim.dynamics.latent_actions import LatentActions
from worldsim.folder import WorldConfig, write_world
from worldsim.model import WorldModel
from worldsim.motion import motion_of_codes
from worldsim.tokenizer.features import Features
from worldsim.training import distributed
from worldsim.training.actions_stage import ActionsStage, Hearing
from worldsim.training.card import FIGURES, write_card
from worldsim.training.checkpoint import Stage
from worldsim.training.consistency import Consistency, Kind
from worldsim.training.device import device_of
from worldsim.training.dynamics_stage import DynamicsStage
from worldsim.training.features_stage import FeaturesStage, kept_back, with_limits
from worldsim.training.footage import Footage, write_start
from worldsim.training.latents import encode_footage
from worldsim.training.loop import Care, fit, measure_rate
from worldsim.training.objects_stage import ObjectsStage
from worldsim.training.plan import Plan, plan_from_minutes, plan_from_steps, read_plan
from worldsim.training.presets import Batches, Preset
from worldsim.training.say import say
from worldsim.training.sharpen import sharpen
from worldsim.training.sound_stage import Sounds, SoundStage, with_silence
from worldsim.training.streams import Streams
from worldsim.training.strips import Strips
from worldsim.training.tokenizer_stage import TokenizerStage

Latents = list[NDArray[np.float16]]  # (T, P, C) per episode


@dataclass(frozen=True)
class Course:
    """What all stages of a run share. A stage trains its part of `model` in place."""

    run: Path
    footage: Footage
    config: WorldConfig
    preset: Preset
    model: WorldModel
    seed: int
    sound: Sounds | None = None  # of the footage; None if it has none
    phi: Features | None = None  # for the stages that look at pictures as it does
    consistency: Kind | None = None  # of the dynamics' loss
    continues: bool = False  # a world that was trained before

    def plan(
        self,
        minutes: float | None,
        steps: int | None,
        shares: Mapping[str, float],
        *,
        resume: bool,
    ) -> Plan:
        """The plan of an earlier run that goes on, or a new one, which is written down: `steps`
        or `minutes` or what the preset says, split by `shares`."""
        if resume and (self.run / "plan.json").exists():
            plan = read_plan(self.run)
        elif steps is not None:
            plan = plan_from_steps(steps, shares)
        else:
            whole = self.preset.minutes if minutes is None else minutes
            plan = plan_from_minutes(whole, shares, self._rates(shares))
        plan = Plan(distributed.from_first(plan.steps))
        if distributed.rank() == 0:
            plan.write(self.run)
        return plan

    def train(self, plan: Plan, care: Care) -> Path:
        """All stages of the plan; returns the world folder."""
        started = time.time()
        tokenizer, dynamics = self.model.tokenizer, self.model.dynamics
        if plan["tokenizer"]:
            tokenizer.decoder.sharpening.zero_()  # the decoder would learn to undo it
            strips = Strips(self.run, self.footage, self.config)
            averaged = fit(
                self._tokenizer_stage(self.model),
                steps=plan["tokenizer"],
                run=self.run,
                care=care,
                watch=strips.tokenizer,
            )
            tokenizer.load_state_dict(averaged.state_dict())
            say(f"sharpening of what is painted: {sharpen(tokenizer, self.footage.frames):.2f}")
        with distributed.first_alone():
            latents = encode_footage(tokenizer, self.footage, self.run / "latents")
        told = self._learn_actions(plan, latents, care)
        if self.model.keyframes is not None and self.model.keyframes.is_empty:
            self.model.keyframes.choose(latents)
        if plan["objects"] and self.model.objects is not None:
            averaged = fit(
                told._objects_stage(self.model, latents),
                steps=plan["objects"],
                run=self.run,
                care=care,
            )
            self.model.objects.load_state_dict(averaged.get_submodule("objects").state_dict())
        if plan["dynamics"]:
            strips = Strips(self.run, told.footage, told.config)
            averaged = fit(
                told._dynamics_stage(self.model, latents),
                steps=plan["dynamics"],
                run=self.run,
                care=care,
                watch=lambda model, step: strips.dynamics(tokenizer, model, step),
            )
            dynamics.load_state_dict(averaged.state_dict())
        if plan["sound"] and told.model.sound is not None:
            stage = told._sound_stage(self.model, latents)
            averaged = fit(stage, steps=plan["sound"], run=self.run, care=care)
            told.model.sound.load_state_dict(averaged.state_dict())
        if plan["features"]:
            told = told._learn_features(plan["features"], latents, care)
        return told._write(plan, time.time() - started)

    def _learn_actions(self, plan: Plan, latents: Latents, care: Care) -> Self:
        """This run with the codes of all footage, and controls bound to them if they are new; as
        it is, if its actions are labelled."""
        encoder = self.model.actions
        if encoder is None:
            return self
        if plan["actions"]:
            stage = self._actions_stage(self.model, latents)
            stage.model.encoder.load_state_dict(encoder.state_dict())
            averaged = fit(stage, steps=plan["actions"], run=self.run, care=care)
            stage.model.load_state_dict(averaged.state_dict())
            encoder.load_state_dict(stage.model.encoder.state_dict())
        codes = []
        for frames, z in zip(self.footage.frames, latents, strict=True):
            found = infer_codes(encoder, frames, torch.from_numpy(np.array(z)))
            codes.append(np.concatenate([[-1], found]))
        config = self.config
        if plan["actions"] or not config.holds:
            config = replace(config, holds=find_holds(codes, len(config.actions)))
        codes = [hold(episode, config.holds) for episode in codes]
        if plan["actions"]:
            motions = motion_of_codes(self.footage.frames, codes, len(config.actions))
            config = bound(config, bind_by_motion(motions))
            say(f"controls, by how the codes move the picture: {listed(config.bindings)}")
        return replace(self, footage=replace(self.footage, actions=codes), config=config)

    def _learn_features(self, steps: int, latents: Latents, care: Care) -> Self:
        """This run with the student of phi and the detector of artifacts, and their limits."""
        student, phi = self.model.features, self.phi
        assert student is not None and phi is not None
        stage = self._features_stage(self.model, latents)
        student.load_state_dict(fit(stage, steps=steps, run=self.run, care=care).state_dict())
        features = with_limits(student, phi, kept_back(latents)[1])
        return replace(self, config=replace(self.config, features=features))

    def _rates(self, stages: Mapping[str, float]) -> dict[str, float]:
        """Updates per second of each stage, timed on throw-away copies."""
        shape = (self.config.tokenizer.num_tokens, self.config.tokenizer.channels)
        one = np.ones((), dtype=np.float16)
        latents = [np.broadcast_to(one, (len(f), *shape)) for f in self.footage.frames]
        with torch.random.fork_rng():  # what follows must not depend on whether this was needed
            trial = WorldModel(self.config).to(device_of(self.model))
            built: dict[str, Callable[[], Stage]] = {
                "tokenizer": lambda: self._tokenizer_stage(trial),
                "actions": lambda: self._actions_stage(trial, latents),
                "objects": lambda: self._objects_stage(trial, latents),
                "dynamics": lambda: self._dynamics_stage(trial, latents),
                "sound": lambda: self._sound_stage(trial, latents),
                "features": lambda: self._features_stage(trial, latents),
            }
            return {stage: measure_rate(built[stage]()) for stage in stages}

    def _tokenizer_stage(self, model: WorldModel) -> TokenizerStage:
        streams = self._streams([self.footage.frames], self.preset.tokenizer_batches)
        # a world that is continued has a dynamics, which is lost on other latents
        return TokenizerStage(model.tokenizer, streams, keep_latents=self.continues)

    def _actions_stage(self, model: WorldModel, latents: Latents) -> ActionsStage:
        sources: list[Any] = [self.footage.frames, latents]
        size, hearing = None, None
        if model.sound is not None and self.sound is not None:
            codec = model.sound.codec
            hearing = Hearing.measured(codec, [sound for sound in self.sound if sound is not None])
            size = (codec.config.columns, codec.config.mels)
            sources.append(with_silence(self.sound, self.footage, codec.config.samples))
        streams = self._streams(sources, self.preset.actions_batches)
        learner = LatentActions(self.config.dynamics, size).to(device_of(model))
        return ActionsStage(learner, model.tokenizer, streams, hearing)

    def _objects_stage(self, model: WorldModel, latents: Latents) -> ObjectsStage:
        assert model.objects is not None, "the plan has this stage for worlds with objects"
        sources: list[Any] = [self.footage.frames, latents, self.footage.actions]
        return ObjectsStage(model.objects, self._streams(sources, self.preset.objects_batches))

    def _dynamics_stage(self, model: WorldModel, latents: Latents) -> DynamicsStage:
        sources: list[Any] = [self.footage.frames, latents, self.footage.actions]
        streams = self._streams(sources, self.preset.dynamics_batches)
        return DynamicsStage(
            model.dynamics,
            model.tokenizer,
            streams,
            model.objects,
            model.keyframes,
            consistency=self._consistency(),
        )

    def _consistency(self) -> Consistency | None:
        if self.consistency is None or self.phi is None:
            return None
        count = self.config.dynamics.num_actions
        frames, actions = self.footage.frames, self.footage.actions
        if self.config.axes:  # no bands per action: all are unknown
            actions = [np.full(len(f), -1) for f in frames]
        return Consistency.measured(self.consistency, self.phi, frames, actions, count)

    def _sound_stage(self, model: WorldModel, latents: Latents) -> SoundStage:
        assert model.sound is not None and self.sound is not None, "the plan has this stage"
        heard = [i for i, sound in enumerate(self.sound) if sound is not None]
        sources: list[Any] = [self.sound, latents, self.footage.actions]
        streams = self._streams([[s[i] for i in heard] for s in sources], self.preset.sound_batches)
        # codes that were learned before have a dynamics, which is lost on other ones
        history = self.config.training.get("history", [])
        known = any("sound" in entry.get("steps", {}) for entry in history)
        return SoundStage(model.sound, streams, keep_codes=known)

    def _features_stage(self, model: WorldModel, latents: Latents) -> FeaturesStage:
        assert self.phi is not None and model.features is not None
        sources = [kept_back(self.footage.frames)[0], kept_back(latents)[0]]
        streams = self._streams(sources, self.preset.features_batches)
        return FeaturesStage(model.features, model.tokenizer, self.phi, streams)

    def _streams(self, sources: list[Any], batches: Batches) -> Streams:
        label = self.footage.fingerprint
        share = distributed.rank(), distributed.size()
        batches = replace(batches, lanes=batches.lanes * distributed.size())
        return Streams(sources, **asdict(batches), seed=self.seed, footage=label, share=share)

    def _write(self, plan: Plan, seconds: float) -> Path:
        entry = {
            "frames": self.footage.num_frames,
            "hours": round(seconds / 3600, 2),
            "threads": torch.get_num_threads(),
            "command": " ".join(Path(a).name if i == 0 else a for i, a in enumerate(sys.argv)),
            "steps": plan.steps,
        }
        history = [*self.config.training.get("history", []), entry]
        start, led = self.footage.start_scene()
        # figures of the world that this one continues are not figures of this one
        kept = {k: v for k, v in self.config.training.items() if k not in FIGURES}
        config = replace(self.config, start_actions=led, training={**kept, "history": history})
        folder = self.run / "world"
        if distributed.rank() > 0:
            return folder
        write_world(folder, config, self.model)
        write_start(folder / "start.mkv", start, config.fps)
        write_card(folder, config)
        say(f"world: {folder}")
        return folder
