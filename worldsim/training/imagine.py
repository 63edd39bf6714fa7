"""What the dynamics makes of streams: it reads real frames, and plays on by itself in some lanes.

A lane that runs free goes on from what the model itself imagined, tick after tick, latent and
picture; the truth stays the target (`dynamics_stage.py`).

Shapes: L lanes, T ticks, N = L * T, P tokens, C channels, S places, H W picture.
"""

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from worldsim.dynamics import Dynamics, TrunkState
from worldsim.dynamics.keyframes import Keyframes
from worldsim.dynamics.matching import told_by
from worldsim.dynamics.objects import Objects
from worldsim.dynamics.whole import dither
from worldsim.tokenizer import Tokenizer
from worldsim.training.device import device_of
from worldsim.training.exercises import Frames
from worldsim.training.lanes import Lanes
from worldsim.training.pictures import Pictures

FREE_FROM, FREE_FULL = 0.05, 1.0  # of the way: some lanes run free, for longer and longer
MEAN_LANES = 0.3  # of the chunks imagine means, the rest samples
FREE_TICKS = 6  # at first; at last whole chunks, and from FREE_FULL on into the next ones
CONTEXT_NOISE = 0.4  # at most, against tokens of unit root mean square
SAMPLE_STEPS = 2  # of the flow


@dataclass(frozen=True)
class Context:
    """What trunk and mover see of a chunk."""

    latents: Tensor  # (L, T, P, C)
    pictures: Tensor  # (L, T, 3, H, W)
    motions: Tensor  # (L, T, 3, h, w), how each picture came from the one before
    levels: Tensor  # (L, T), standard deviation of the noise in the latents
    age: Tensor  # int (L, T), for how many ticks they have been the model's own; 0: real


class Imagination:
    def __init__(
        self,
        dynamics: Dynamics,
        tokenizer: Tokenizer,
        objects: Objects | None,
        keyframes: Keyframes | None,
        pictures: Pictures,
        precision: torch.dtype,
    ) -> None:
        """`pictures` moves and compares them; what is not trained is computed in `precision`."""
        self._dynamics, self._pictures, self._precision = dynamics, pictures, precision
        # rounded once, not in every call; the numbers are the same
        self._tokenizer = copy.deepcopy(tokenizer).to(precision).requires_grad_(False)
        self._objects, self._keyframes = objects, keyframes
        self._device = device_of(dynamics)
        self.lanes: Lanes | None = None

    def begin(self, pixels: Tensor, latents: Tensor, jumped: Tensor, progress: float) -> None:
        """Put the lanes where a chunk begins: real frames (L, T + 1, 3, H, W) and (L, T + 1, P, C),
        of which those `jumped` (L,) follow from nothing."""
        picture, latent = pixels[:, 0], latents[:, 0]
        fresh = replace(self._dynamics.initial_state(len(latent)), latent=latent)
        if self.lanes is None:
            nobody = torch.zeros_like(jumped)
            self.lanes = Lanes(
                state=fresh,
                latent=latent,
                picture=picture,
                motion=self.match(picture, picture),
                before=picture,
                free=nobody,
            )
        # a lane that runs free for less than a chunk is led again at the next one
        led = jumped if progress >= FREE_FULL else torch.ones_like(jumped)
        before = torch.where(jumped[:, None, None, None], picture, self.lanes.before)
        motion = self.match(before, picture)
        self.lanes.lead(latent, picture, motion, led, may_free=progress >= FREE_FROM)
        self.lanes.restart(fresh, jumped)
        self.lanes.before = pixels[:, -2]

    def context(
        self, pixels: Tensor, latents: Tensor, known: Tensor, actions: Tensor, progress: float
    ) -> Context:
        """Of a chunk that was begun: real frames, some with noise and blur; the last ones of free
        lanes are what the model imagines."""
        assert self.lanes is not None, "begin comes first"
        lanes, free_ticks = self.lanes, _free_ticks(progress, latents.shape[1] - 1)
        count, ticks = len(latents), latents.shape[1] - 1
        level = CONTEXT_NOISE * torch.rand(count) * (torch.rand(count) < 0.6) * ~lanes.free
        noise = torch.randn_like(latents[:, :-1])
        seen = latents[:, :-1] + level.view(-1, 1, 1, 1) * noise
        shown = pixels[:, :-1].clone()
        for lane in level.nonzero()[:, 0].tolist():
            shown[lane] = _blur(shown[lane], level[lane] / CONTEXT_NOISE)
        age = torch.zeros(count, ticks, dtype=torch.int64)
        first = lanes.motion[:, None]
        lanes.latent, lanes.picture = lanes.latent.clone(), lanes.picture.clone()
        lanes.motion = lanes.motion.clone()
        if lanes.free.any():
            rows, state = lanes.free_rows()
            begin = latents.shape[1] - 1 - free_ticks
            if begin:
                zeros = latents.new_zeros(len(rows), begin)
                _, state = self._read(latents[rows, :begin], known[rows, :begin], zeros, state)
                lanes.latent[rows], lanes.picture[rows] = latents[rows, begin], pixels[rows, begin]
                lanes.motion[rows] = self.match(pixels[rows, begin - 1], pixels[rows, begin])
            seen[rows, begin:], shown[rows, begin:], led = self._imagine(
                lanes, state, known[:, begin:], actions[:, begin:]
            )
            age[rows, begin:] = torch.arange(ticks - begin)
        later = self._pictures.match_along(shown, self._tokenizer.config.grid)
        motions = torch.cat([first, later], dim=1)
        if lanes.free.any():
            motions[rows, begin:] = led
        return Context(seen, shown, motions, level[:, None].expand(count, ticks), age)

    @torch.no_grad()
    def _read(self, *inputs: Any) -> tuple[Tensor, TrunkState]:
        """The trunk's `forward`, without gradients."""
        return self._dynamics.trunk(*inputs)  # type: ignore[no-any-return]

    @torch.no_grad()
    def _imagine(
        self, lanes: Lanes, state: TrunkState, known: Tensor, actions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Play on from where the free lanes stand and leave them where it ends: latents, pictures
        and motions on the way, first ones included."""
        rows = lanes.free.nonzero()[:, 0]
        latent, picture, motion = lanes.latent[rows], lanes.picture[rows], lanes.motion[rows]
        latents, pictures, motions = [], [], []
        is_mean = bool(torch.rand(()) < MEAN_LANES)
        ticks = torch.randint(1 << 20, (len(rows),), device=self._device)
        slots = self._objects.initial_state(len(rows)) if self._objects else None
        for t in range(actions.shape[1] - 1):
            latents.append(latent)
            pictures.append(picture)
            motions.append(motion)
            before = state.latent
            memory, state = self._dynamics.trunk.step(
                latent, known[rows, t], latent.new_zeros(len(rows)), state
            )
            slots, expected = self._expect(slots, latent, actions[rows, t + 1])
            noise = None if is_mean else torch.randn_like(latent)
            latent, moved = self._dynamics.predict(
                self._dynamics.with_slots(memory, expected),
                latent,
                before,
                motion,
                picture,
                actions[rows, t + 1],
                self.move,
                noise=noise,
                steps=SAMPLE_STEPS,
                dither=None if is_mean else dither(ticks + t),
            )
            latent = latent.float()
            if self._keyframes is not None and noise is not None:
                latent = self._keyframes(latent, moved.is_recalled(noise))
            picture = self._tokenizer.decoder(latent, moved.latent, moved.picture).clamp(-1, 1)
            motion = told_by(moved.flow, self.match(pictures[-1], picture))
        lanes.latent[rows], lanes.picture[rows], lanes.motion[rows] = latent, picture, motion
        return (
            torch.stack(latents, dim=1),
            torch.stack(pictures, dim=1),
            torch.stack(motions, dim=1),
        )

    def frames(self, context: Context, known: Tensor, actions: Tensor) -> Frames:
        """Read the chunk and move its pictures."""
        assert self.lanes is not None, "begin comes first"
        lanes, seen = self.lanes, context.latents
        before = torch.cat([lanes.state.latent[:, None], seen[:, :-1]], dim=1)
        memory, after = self._dynamics.trunk(seen, known[:, :-1], context.levels, lanes.state)
        lanes.keep(after)
        chosen = actions[:, 1:].flatten(0, 1)
        moved = self._dynamics.head.move(
            self._with_slots(memory, seen, actions).flatten(0, 1),
            seen.flatten(0, 1),
            before.flatten(0, 1),
            context.motions.flatten(0, 1),
            context.pictures.flatten(0, 1),
            chosen,
            self.move,
        )
        return Frames(moved, chosen, context.levels.flatten())

    def _with_slots(self, memory: Tensor, latents: Tensor, actions: Tensor) -> Tensor:
        """What the trunk says (L, T, S, D), and the slots, which are found anew in every chunk."""
        if self._objects is None:
            return memory
        slots, told = self._objects.initial_state(len(latents)), []
        for t in range(latents.shape[1]):
            slots, expected = self._expect(slots, latents[:, t], actions[:, t + 1])
            told.append(self._dynamics.with_slots(memory[:, t], expected))
        return torch.stack(told, dim=1)

    @torch.no_grad()
    def _expect(self, slots: Any, latent: Tensor, action: Tensor) -> tuple[Any, Tensor | None]:
        """The slots in the frame of `latent` (L, P, C), and where `action` (L,) takes them."""
        if self._objects is None:
            return None, None
        # places need more than bfloat16's 8 bits
        with torch.autocast(self._device.type, enabled=False):
            slots = self._objects.correct(slots, latent.float())
            return slots, self._objects.carry(slots, latent.float(), action)

    @torch.no_grad()
    def match(self, before: Tensor, picture: Tensor) -> Tensor:
        return self._pictures.match(before, picture, self._tokenizer.config.grid)

    def move(self, picture: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
        """As `Tokenizer.move`."""
        moved = self._pictures.move(picture, flow)
        with torch.no_grad():  # rounded before it is rearranged: half the bytes, the same numbers
            return moved, self._tokenizer.encoder(moved.to(self._precision))

    def decode(self, frames: Frames, latents: Tensor) -> Tensor:
        """(N, P, C) -> (N, 3, H, W)."""
        m = frames.moved
        painted: Tensor = self._tokenizer.decoder(latents, m.latent, m.picture)
        return painted


def _blur(pixels: Tensor, share: Tensor) -> Tensor:
    """(T, 3, H, W), blurred to the `share` () 0..1: decoded pictures are soft."""
    soft = F.interpolate(F.avg_pool2d(pixels, 2), scale_factor=2, mode="bilinear")
    return torch.lerp(pixels, soft, share)


def _free_ticks(progress: float, ticks: int) -> int:
    """How long a free lane runs free in a chunk of `ticks`."""
    ramp = (progress - FREE_FROM) / (FREE_FULL - FREE_FROM)
    return min(ticks, FREE_TICKS + int(max(ramp, 0.0) * (ticks - FREE_TICKS)))
