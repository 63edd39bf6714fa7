"""The networks of a world, and how they read pictures into a state.

Shapes: B players, T ticks, P tokens, C channels, H W picture, K slots.
"""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from worldsim import objects
from worldsim.dynamics import Dynamics
from worldsim.dynamics.kept import Kept, keep, nothing_kept, pose_change
from worldsim.dynamics.keyframes import Keyframes
from worldsim.dynamics.latent_actions import ActionEncoder
from worldsim.dynamics.matching import match, told_by
from worldsim.dynamics.objects import Objects
from worldsim.folder import WorldConfig
from worldsim.sound import Sound, SoundState
from worldsim.state import WorldState
from worldsim.tokenizer import Tokenizer, to_pixels
from worldsim.tokenizer.student import Student

Frames = NDArray[np.uint8]
ENCODE_BATCH = 64  # frames that the encoder reads at once: bounds its memory


class WorldModel(nn.Module):
    """The networks, under the names that they have in model.safetensors. What a world has no part
    for is None."""

    def __init__(self, config: WorldConfig) -> None:
        super().__init__()
        self.tokenizer = Tokenizer(config.tokenizer)
        self.dynamics = Dynamics(config.dynamics, config.objects)
        self.actions = ActionEncoder(config.dynamics) if config.learned_actions else None
        self.sound = Sound(config.sound) if config.sound is not None else None
        self.objects = Objects(config.objects, config.dynamics) if config.objects else None
        known = config.features
        self.features = Student(config.tokenizer, known.size) if known else None
        self.keyframes = new_keyframes(config) if config.keyframes else None

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.dynamics.trunk.places.device

    def pixels(self, frames: Frames) -> Tensor:
        """uint8 (..., H, W, 3) -> float (..., 3, H, W) in [-1, 1], on the device."""
        return to_pixels(torch.from_numpy(np.ascontiguousarray(frames)).to(self.device))

    def encode(self, frames: Frames) -> Tensor:
        """(B, T, H, W, 3) -> latents (B, T, P, C), a bounded number of frames at a time."""
        batch, ticks = frames.shape[:2]
        flat = frames.reshape(-1, *frames.shape[2:])
        parts = [
            self.tokenizer.encode(self.pixels(flat[i : i + ENCODE_BATCH])[None])[0]
            for i in range(0, len(flat), ENCODE_BATCH)
        ]
        latents = torch.cat(parts)
        return latents.view(batch, ticks, *latents.shape[1:])

    def look(self, frames: Frames, led: Tensor) -> WorldState:
        """The state after a context of frames (B, T, H, W, 3) and the actions `led` (B, T) that led
        to them."""
        batch, ticks = frames.shape[:2]
        latents = self.encode(frames)
        first = self.dynamics.initial_state(batch)
        context, trunk = self.dynamics.trunk(
            latents,
            led,
            torch.zeros(batch, ticks, device=self.device),
            type(first)(memory=first.memory, latent=latents[:, 0]),
        )
        last, earlier = (self.pixels(frames[:, t]) for t in (-1, max(ticks - 2, 0)))
        seen = self._seen(frames, latents, context, led) if self.keyframes is not None else None
        sound = self.sound.look(latents, led) if self.sound else None
        return WorldState(
            memory=torch.stack(trunk.memory, dim=1),
            latent=latents[:, -1],
            before=latents[:, max(ticks - 2, 0)],
            context=context[:, -1],
            motion=self._match(earlier, last),
            picture=last,
            tick=torch.zeros(batch, dtype=torch.int64, device=self.device),
            seed=torch.zeros(batch, dtype=torch.int64, device=self.device),
            slots=objects.look(self.objects, latents, led) if self.objects else None,
            **(sound.tensors() if sound else {}),
            **(seen.tensors() if seen else {}),
        )

    def _seen(self, frames: Frames, latents: Tensor, context: Tensor, led: Tensor) -> Kept:
        """What is kept of a context (B, T, H, W, 3) with the `latents` (B, T, P, C), of which the
        trunk made `context` (B, T, S, D), led to by the actions `led` (B, T)."""
        seen, ticks = nothing_kept(latents[:, 0]), latents.shape[1]
        before = earlier = self.pixels(frames[:, 0])
        for t in range(ticks):
            clock = torch.full((len(frames),), t + 1 - ticks, device=self.device)
            if t > 0:
                # measured as in play, by the mover: matching pictures sees less of a turn
                motion = self._match(earlier, before)
                past = latents[:, t - 1], latents[:, max(t - 2, 0)], motion, before
                moved = self.dynamics.head.move(
                    context[:, t - 1], *past, led[:, t], self.tokenizer.move
                )
                seen = replace(seen, pose=seen.pose + self.pose_change(moved.flow))
                earlier, before = before, self.pixels(frames[:, t])
            seen = keep(seen, latents[:, t], clock)
        return seen

    def pose_change(self, flow: Tensor) -> Tensor:
        """By which a `flow` (B, 2, h, w) in pixels changes a pose, (B, 4)."""
        return pose_change(flow, self.tokenizer.config.patch)

    def remember(
        self,
        state: WorldState,
        latent: Tensor,
        picture: Tensor,
        found: tuple[Tensor, ...],
        *,
        sound: SoundState | None,
        flow: Tensor | None,
        pose: Tensor | None,
    ) -> WorldState:
        """`state` a tick later: what is shown now; what was `found` in it: the trunk's context and
        memory, the motion since what was shown before, the slots if there are any; what was
        heard, by what `flow` the mover moved the last picture, if it did, and to which `pose`."""
        context, memory, motion, *slots = found
        if flow is not None:
            motion = told_by(flow, motion)
        if (seen := state.seen) is not None:
            pose = seen.pose if pose is None else pose
            seen = keep(replace(seen, pose=pose), latent, state.tick + 1)
        return WorldState(
            memory=memory,
            latent=latent,
            before=state.latent,
            motion=motion,
            context=context,
            picture=picture,
            tick=state.tick + 1,
            seed=state.seed,
            ringing=state.ringing,
            slots=slots[0] if slots else None,
            **(sound.tensors() if sound else {}),
            **(seen.tensors() if seen else {}),
        )

    def _match(self, before: Tensor, picture: Tensor) -> Tensor:
        return match(before, picture, self.tokenizer.config.grid)


def new_keyframes(config: WorldConfig) -> Keyframes:
    """Room for as many as the world is to keep."""
    return Keyframes(config.keyframes, config.tokenizer.num_tokens, config.tokenizer.channels)
