"""A world: (state, action) -> (state, frame, sound, objects).

A tick has two halves. `predict` is late: it needs the action, and the frame comes out of it.
`advance` is early: it reads the new frame into memory once the frame has left. `step` does both.
"""

import copy
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from worldsim import objects, start
from worldsim.anchor import anchored, quiet, ringing_after
from worldsim.axes import Action, at_rest
from worldsim.backends.choice import open_parts
from worldsim.backends.parts import Parts
from worldsim.bindings import bind_in_folder
from worldsim.codes import hold, infer_codes
from worldsim.costs import Pace, measure
from worldsim.draw import draw, noise_of
from worldsim.dynamics.flow import STEPS
from worldsim.dynamics.kept import nothing_kept
from worldsim.dynamics.objects import Objects
from worldsim.folder import WorldConfig, find_world, read_config, read_weights
from worldsim.inputs import check_frames, read_action, read_past, read_seeds
from worldsim.model import Frames, WorldModel
from worldsim.output import Output, Prediction
from worldsim.runtime import find_device
from worldsim.snapshot import decode_state, encode_state
from worldsim.sound import SoundState
from worldsim.state import WorldState
from worldsim.tokenizer import to_frames

MODES = {"fast": 1, "interactive": 4, "quality": 4}  # flow steps


class World:
    """A trained world. Get one from `World.load`; it holds weights only, all memory is in states.

    `flow_steps` is K, the flow steps of a frame: 1 is fast, 2 and 4 are better. In the mode
    "interactive" it is the most that a frame gets: fewer, when the tick would be late otherwise.
    """

    def __init__(
        self, folder: Path, config: WorldConfig, model: WorldModel, weights_hash: str
    ) -> None:
        self.config, self.name, self.hash = config, config.name, weights_hash
        self.fps, self.sample_rate = config.fps, config.sample_rate
        self.frame_size = (config.tokenizer.height, config.tokenizer.width)
        self.actions, self.bindings = list(config.actions), dict(config.bindings)
        self.axes = list(config.axes)  # of a world whose actions are vectors of floats
        self.device = next(model.parameters()).device
        self.flow_steps = 2
        self.reanchors = False
        self._folder = folder
        self._model = model
        self._parts = Parts(model)
        self._start: WorldState | None = None
        self._adapts = False
        self._paces: dict[int, Pace] = {}  # by number of players

    @classmethod
    def load(
        cls,
        name: str | Path,
        device: str = "cpu",
        *,
        flow_steps: int | None = None,
        mode: str | None = None,
        backend: str = "torch",
        reanchor: bool = False,
    ) -> Self:
        """A shipped world by name, a world folder, or OWNER/NAME on a model hub.

        flow_steps: K, 2 by default, or as the mode says: "fast" is 1, "quality" 4, and
        "interactive" at most 4, as many as leave each tick in its period.
        backend: what computes the ticks; "auto" is what `worldsim doctor --probe` chose.
        reanchor: see `reanchoring`.
        Raises CheckpointError if there is none, or if it is damaged or of another format.
        """
        if mode is not None and mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
        if flow_steps is None:
            flow_steps = 2 if mode is None else MODES[mode]
        if flow_steps not in STEPS:
            raise ValueError(f"flow_steps must be one of {STEPS}, got {flow_steps}")
        find_device(device)
        folder = find_world(name)
        config = read_config(folder)
        model = WorldModel(config)
        digest = read_weights(folder, model)
        world = cls(folder, config, model.to(device).eval().requires_grad_(False), digest)
        world.flow_steps = flow_steps
        world._adapts = mode == "interactive"
        world._parts = open_parts(model, backend=backend, world_hash=digest, device=device)
        return world.reanchoring() if reanchor else world

    @property
    def backend(self) -> str:
        """The name of what computes the ticks; torch from the moment at which another fails."""
        return self._parts.backend

    @torch.inference_mode()
    def prepare(self, batch: int) -> None:
        """Get the backend ready for so many players at once, which can take seconds; batches of
        another size are left to torch. One player is prepared for by `load`."""
        self._parts.prepare(batch)

    @property
    def num_actions(self) -> int:
        """A: actions are 0..A-1. None of them in a world with axes."""
        return len(self.actions)

    @property
    def idle_action(self) -> Action:
        """What a player does who does nothing: `noop`, or code 0 where there is none; or all axes
        at rest."""
        return at_rest(self.axes) if self.axes else self.bindings.get("noop", 0)

    @property
    def objects(self) -> Objects | None:
        """The network that follows objects, if the world has them."""
        return self._model.objects

    @property
    def has_keyframes(self) -> bool:
        """Whether it keeps frames of its footage."""
        return self._model.keyframes is not None

    def without_keyframes(self) -> Self:
        """The same world, which has forgotten them."""
        world = copy.copy(self)
        world._model = copy.deepcopy(self._model)
        world._model.keyframes = None
        world._parts, world._start, world._paces = Parts(world._model), None, {}
        world.reanchors = False
        return world

    def reanchoring(self) -> Self:
        """The same world, which goes on from a keyframe when its alarm keeps ringing; a world that
        lacks either stays as it is."""
        world = copy.copy(self)
        world.reanchors = self.has_keyframes and self.config.features is not None
        return world

    def bind(self, controls: Mapping[str, int]) -> None:
        """Bind controls, control -> code, here and in the world's folder, as `worldsim actions
        --bind` does. ValueError for a code that is none, MachineError if it cannot be written."""
        self.config = bind_in_folder(self._folder, controls)
        self.actions, self.bindings = list(self.config.actions), dict(self.config.bindings)

    @torch.inference_mode()
    def reset(
        self,
        frames: Frames | None = None,
        seed: int | Sequence[int] = 0,
        batch: int = 1,
        actions: ArrayLike | None = None,
    ) -> WorldState:
        """A new world, after a look at `frames` (or at the start scene, if None).

        frames: uint8 (T, H, W, 3), the same for all `batch` players, or (B, T, H, W, 3). actions:
        ints (T - 1,) or (B, T - 1), or floats with an axis more, what was done between them;
        unknown if None. seed: one for
        player 0 (player i gets seed + i), or one per player.
        """
        if batch < 1:
            raise ValueError(f"batch must be at least 1, got {batch}")
        if frames is None:
            if actions is not None:
                raise ValueError("actions are what was done between frames: give frames, too")
            if self._start is None:
                shown = start.read_start(self._folder, self.frame_size)
                self._start = self._look(shown[None], self.config.start_actions or None)
            state = self._start.repeat(batch)
        else:
            check_frames(frames, self.frame_size, "T", "BT")
            several = frames.ndim == 5
            if several and batch not in (1, len(frames)):
                raise ValueError(f"frames are of {len(frames)} players, batch is {batch}")
            state = self._look(frames if several else frames[None], actions)
            state = state if several else state.repeat(batch)
        seeds = read_seeds(seed, state.batch)
        state = self._completed(replace(state, seed=torch.tensor(seeds, device=self.device)))
        if self._adapts:
            self._pace(state)
        return state

    def step(
        self,
        state: WorldState,
        action: int | ArrayLike,
        *,
        flow_steps: int | None = None,
        noise_scale: float | None = None,
    ) -> tuple[WorldState, Output]:
        """One tick. action: an int for all players, or ints (B,), each below `num_actions`; in a
        world with axes, floats (A,) for all or (B, A), each within its axis."""
        prediction = self.predict(state, action, flow_steps=flow_steps, noise_scale=noise_scale)
        return self.advance(prediction), prediction.output

    @torch.inference_mode()
    def predict(
        self,
        state: WorldState,
        action: int | ArrayLike,
        *,
        flow_steps: int | None = None,
        noise_scale: float | None = None,
        left: float | None = None,
    ) -> Prediction:
        """The late half of a tick: the frame that follows `action`, sampled in `flow_steps` steps
        from noise of `noise_scale`, the world's own if None. Noise of 0 is the deterministic
        prediction: the mean of what may follow, softer than any of it. `left`: seconds in which the
        tick has to be over, a period if None; only the mode "interactive" looks at it."""
        state = self._completed(state)
        steps = self.flow_steps if flow_steps is None else flow_steps
        if self._adapts and flow_steps is None:
            steps = self._pace(state).steps(1.0 / self.fps if left is None else left)
        if steps not in STEPS:
            raise ValueError(f"flow_steps must be one of {STEPS}, got {steps}")
        scale = self.config.noise_scale if noise_scale is None else noise_scale
        if not 0 <= scale < math.inf:
            raise ValueError(f"noise_scale must be a number from 0 on, got {scale}")
        chosen = self._told(action, state.batch)
        begun = time.perf_counter()
        noise = noise_of(state, scale)
        drawn = draw(self._model, self._parts, state, chosen, noise, steps)
        predicted = time.perf_counter()
        inputs = (drawn.latent, drawn.moved.latent, drawn.moved.picture, state.latent)
        picture, shown, *score = self._parts.run("paint", *inputs)
        frame = shown.cpu().numpy()
        timing = {
            "head_ms": 1e3 * (predicted - begun),
            "decode_ms": 1e3 * (time.perf_counter() - predicted),
        }
        audio, sound = self._hear(state, drawn.latent, chosen, timing)
        return Prediction(
            output=Output(
                frame=frame,
                audio=audio,
                objects=self._shown(drawn.slots),
                alarm=self._alarm(*score),
                timing=timing,
                flow_steps=steps,
            ),
            state=state,
            action=chosen,
            drawn=drawn,
            picture=picture,
            seconds=time.perf_counter() - begun,
            sound=sound,
        )

    @torch.inference_mode()
    def advance(self, prediction: Prediction) -> WorldState:
        """The early half: remember what was shown. Adds to the timing of its output."""
        p, drawn, begun = prediction, prediction.drawn, time.perf_counter()
        before, latent, picture = p.state, drawn.latent, p.picture
        if before.ringing is not None and p.output.alarm is not None:
            alarm = torch.from_numpy(p.output.alarm).to(self.device)
            ringing, is_lost = ringing_after(before.ringing, alarm)
            before = replace(before, ringing=ringing)
            latent, picture = anchored(self._model, latent, picture, is_lost)
        found = self._read(before, latent, picture, p.action, drawn.slots)
        flow, pose = drawn.moved.flow, drawn.pose
        state = self._model.remember(
            before, latent, picture, found, sound=p.sound, flow=flow, pose=pose
        )
        model = self._model.objects
        if model is not None and drawn.slots is not None and model.is_frozen(drawn.slots).any():
            state = objects.hold(model, self._model.tokenizer, p.state, state)
        p.output.timing["trunk_ms"] = 1e3 * (time.perf_counter() - begun)
        pace = self._paces.get(state.batch)
        if pace is not None:
            pace.note(p.output.flow_steps, p.seconds + time.perf_counter() - begun)
        return state

    @torch.inference_mode()
    def observe(self, state: WorldState, frame: Frames, action: int | ArrayLike) -> WorldState:
        """Remember a real frame, uint8 (B, H, W, 3), that followed `action`, instead of a
        predicted one."""
        state = self._completed(state)
        check_frames(frame, self.frame_size, "B")
        if len(frame) != state.batch:
            raise ValueError(
                f"frame must be one for each of {state.batch} players, got {len(frame)}"
            )
        pixels, latent = self._model.pixels(frame), self._model.encode(frame[:, None])[:, 0]
        chosen = self._told(action, state.batch)
        _, sound = self._hear(state, latent, chosen, {})
        # where the action takes the player and the objects is predicted, as in play
        drawn = draw(self._model, self._parts, state, chosen, None, 1)
        found = self._read(state, latent, pixels, chosen, drawn.slots)
        return self._model.remember(
            state, latent, pixels, found, sound=sound, flow=None, pose=drawn.pose
        )

    @torch.inference_mode()
    def edit(
        self,
        state: WorldState,
        slot: int,
        *,
        move: Sequence[float] | None = None,
        remove: bool = False,
        freeze: bool = False,
    ) -> WorldState:
        """The state with the object of one slot moved by (dx, dy) in parts of the frame, taken
        out of the world, or frozen: it no longer moves by itself. Of a batch, that slot of each.

        Raises ValueError if the world has no objects, or the slot none, or if not one is asked.
        """
        if self._model.objects is None or state.slots is None:
            raise ValueError(f"{self.name} has no objects; train --stages objects finds them")
        return objects.edit(
            self._model.objects,
            self._model.tokenizer,
            state,
            slot,
            move=move,
            remove=remove,
            freeze=freeze,
        )

    @torch.inference_mode()
    def encode(self, frames: Frames) -> NDArray[np.float32]:
        """The latents of frames: uint8 (T, H, W, 3) -> (T, P, C)."""
        check_frames(frames, self.frame_size, "T")
        latents: NDArray[np.float32] = self._model.encode(frames[None])[0].cpu().numpy()
        return latents

    @torch.inference_mode()
    def reconstruct(self, frames: Frames, *, clear_cache: bool = False) -> Frames:
        """uint8 (T, H, W, 3) through the tokenizer and back; `clear_cache` makes the decoder
        paint every frame from its latent alone."""
        check_frames(frames, self.frame_size, "T")
        latents = self._model.encode(frames[None])[0]
        tokenizer = self._model.tokenizer
        cleared = tokenizer.decoder.cleared(1)
        picture, shown = cleared, []
        for latent in latents.split(1):
            picture = tokenizer.step(latent, cleared if clear_cache else picture).clamp(-1, 1)
            shown.append(to_frames(picture)[0])
        return torch.stack(shown).cpu().numpy()

    @torch.inference_mode()
    def repeat_sound(self, sound: NDArray[np.float32]) -> NDArray[np.float32]:
        """Samples (T, N) in -1..1 through the codec and back; ValueError in a silent world."""
        if self._model.sound is None:
            raise ValueError(f"{self.name} is silent")
        return self._model.sound.repeat(torch.from_numpy(sound).to(self.device)).cpu().numpy()

    def snapshot(self, state: WorldState) -> bytes:
        """`state` as bytes that `restore` turns back into it, bit for bit."""
        return encode_state(state, self.hash)

    def restore(self, data: bytes) -> WorldState:
        """The state in a snapshot; CheckpointError if it is damaged or of another world."""
        return self._completed(decode_state(data, self.hash, self.device))

    @torch.inference_mode()
    def infer_actions(self, frames: Frames) -> NDArray[np.int64] | None:
        """(T, H, W, 3) -> the codes (T - 1,) that the latent action model sees, what comes again
        while a key is held filled in; None: this world was trained on labelled actions and has no
        such model."""
        if self._model.actions is None:
            return None
        check_frames(frames, self.frame_size, "T")
        if len(frames) < 2:
            raise ValueError("frames must be at least two, got one")
        found = infer_codes(self._model.actions, frames, self._model.encode(frames[None])[0])
        return hold(found, self.config.holds)

    @torch.inference_mode()
    def doubt(self, before: Frames, after: Frames) -> NDArray[np.float64] | None:
        """How little each frame of `after` follows from that of `before`, uint8 (N, H, W, 3): the
        score that rings the alarm, and the largest change of a feature, (N, 2); None if this
        world has no features."""
        student = self._model.features
        if student is None:
            return None
        for frames in (before, after):
            check_frames(frames, self.frame_size, "N")
        if len(before) != len(after):
            raise ValueError(f"as many before as after, got {len(before)} and {len(after)}")
        a, b = self._model.encode(before[:, None])[:, 0], self._model.encode(after[:, None])[:, 0]
        both = torch.stack([student.score(a, b), student.bound(a, b)], dim=-1)
        doubt: NDArray[np.float64] = both.double().cpu().numpy()
        return doubt

    def _completed(self, state: WorldState) -> WorldState:
        """`state` with all parts that it has in this world: one that was saved elsewhere, or by an
        earlier version, may lack some. ValueError for that of another world."""
        got, c = tuple(state.latent.shape[1:]), self.config.dynamics
        if got != (c.num_tokens, c.channels):
            raise ValueError(
                f"the state is of another world: latents {got}, not {(c.num_tokens, c.channels)}"
            )
        if self.has_keyframes and state.seen is None:
            state = replace(state, **nothing_kept(state.latent).tensors())
        if self.reanchors and state.ringing is None:
            return replace(state, ringing=quiet(state.batch, self.device))
        is_foreign = state.ringing is not None and not self.reanchors
        return replace(state, ringing=None) if is_foreign else state

    def _pace(self, state: WorldState) -> Pace:
        """For batches of this size; measured when there is none yet, in some ticks from `state`."""
        if state.batch not in self._paces:
            cost = measure(self, state, self.flow_steps)
            self._paces[state.batch] = Pace(cost, self.flow_steps)
        return self._paces[state.batch]

    def _look(self, frames: Frames, actions: ArrayLike | None) -> WorldState:
        """The state after a context of frames (B, T, H, W, 3)."""
        batch, ticks = frames.shape[:2]
        dynamics, row = self._model.dynamics, (len(self.axes),) if self.axes else ()
        led = torch.full((batch, ticks, *row), dynamics.unknown_action, device=self.device)
        if actions is not None and ticks > 1:
            past = read_past(actions, batch, ticks, axes=self.axes, device=self.device)
            led[:, 1:] = dynamics.told(past)
        return self._model.look(frames, led)

    def _hear(
        self, state: WorldState, latent: Tensor, action: Tensor, timing: dict[str, float]
    ) -> tuple[NDArray[np.float32] | None, SoundState | None]:
        """The sound (B, N) of the tick that led to `latent`, and what is remembered of it."""
        begun = time.perf_counter()
        sound = self._model.sound
        if sound is None:
            return None, None
        heard = state.sound or sound.initial_state(state.batch)
        chance = sound.chance(state.seed.tolist(), state.tick.tolist())
        inputs = (*heard.tensors().values(), latent, action, *(x.to(self.device) for x in chance))
        said, *after = self._parts.run("hear", *inputs)
        samples: NDArray[np.float32] = said.cpu().numpy()
        timing["sound_ms"] = 1e3 * (time.perf_counter() - begun)
        return samples, SoundState(**dict(zip(heard.tensors(), after, strict=True)))

    def _read(
        self,
        state: WorldState,
        latent: Tensor,
        picture: Tensor,
        action: Tensor,
        slots: Tensor | None,
    ) -> tuple[Tensor, ...]:
        """What the trunk and the slots make of a tick; `slots` are where the action takes them."""
        known = () if slots is None else (slots,)
        inputs = (latent, state.latent, action, state.memory, state.picture, picture, *known)
        return self._parts.run("remember", *inputs)

    def _shown(self, slots: Tensor | None) -> NDArray[np.float32] | None:
        if self._model.objects is None or slots is None:
            return None
        shown: NDArray[np.float32] = slots[..., : self._model.objects.config.shown].cpu().numpy()
        return shown

    def _alarm(self, score: Tensor | None = None) -> NDArray[np.bool_] | None:
        """(B,): whether the latent does not follow from what was shown before, by its score (B,);
        None if this world has no features."""
        if score is None or self.config.features is None:
            return None
        is_alarm: NDArray[np.bool_] = (score > self.config.features.alarm).cpu().numpy()
        return is_alarm

    def _told(self, action: int | ArrayLike, batch: int) -> Tensor:
        return read_action(
            action, batch, count=self.num_actions, axes=self.axes, device=self.device
        )
