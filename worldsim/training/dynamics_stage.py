"""Training of the dynamics on streams of latents, pictures and actions.

Each lane carries its memory from chunk to chunk. The mover learns to move each picture onto the
next one, the head learns what then still differs (`exercises.py`). After a while some lanes run
free: their context is what the model itself imagined, tick after tick, latent and picture, and the
truth is still the target, which is what keeps a long rollout from drifting away.

An error of a latent is not an error that one sees: some predictions are also decoded. Means are
compared with the real picture; samples are shown to a critic, too, because what a mean leaves out
is lost for ever when the next frame is made from it, and the hall ends in fog. The decoder itself
stays as it is: trained along, under a harder critic, it lost 3 dB on real frames (docs/log.md).

Shapes: L lanes, T ticks, N = L * T, P tokens, C channels, H W picture.
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
from worldsim.tokenizer.losses import reconstruction_loss
from worldsim.training.consistency import WEIGHT as CONSIST_WEIGHT
from worldsim.training.consistency import Consistency
from worldsim.training.device import device_of, fetch, fetch_pixels, lowered
from worldsim.training.exercises import Frames, exercise, news_loss
from worldsim.training.lanes import Lanes
from worldsim.training.loop import matrix_optimizers, take_step
from worldsim.training.native import library_for
from worldsim.training.paint import PaintLoss, part_of
from worldsim.training.pictures import pictures_for
from worldsim.training.streams import Streams

FREE_FROM, FREE_FULL = 0.05, 1.0  # of the way: some lanes run free, for longer and longer
MEAN_LANES = 0.3  # of the chunks imagine means, the rest samples
FREE_TICKS = 6  # at first; at last whole chunks, and from FREE_FULL on into the next ones
CONTEXT_NOISE = 0.4  # at most, against tokens of unit root mean square
FORGET_ACTIONS = 0.1  # share of chunks whose past actions are hidden from the trunk
PICTURES = 16  # means that are decoded per update, and as many samples
NEWS = 32  # frames on either side whose news are judged per update
# an imagined past is soon in another place than the real one: then all would be new, and motion
# would be what leads back there
NEAR_TICKS = 6
PICTURE_WEIGHT, MOVED_WEIGHT, NEWS_WEIGHT = 0.3, 2.0, 0.2
SAMPLE_STEPS = 2  # of the flow
CRITIC_FROM = 0.1  # of the way: before, samples are wrong in ways that need no critic
FAITHFUL = 0.3  # of a sample to the frame that really came


@dataclass(frozen=True)
class Context:
    """What trunk and mover see of a chunk."""

    latents: Tensor  # (L, T, P, C)
    pictures: Tensor  # (L, T, 3, H, W)
    motions: Tensor  # (L, T, 3, h, w), how each picture came from the one before
    levels: Tensor  # (L, T), standard deviation of the noise in the latents
    age: Tensor  # int (L, T), for how many ticks they have been the model's own; 0: real


class DynamicsStage:
    name = "dynamics"

    def __init__(
        self,
        dynamics: Dynamics,
        tokenizer: Tokenizer,
        streams: Streams,
        objects: Objects | None = None,
        keyframes: Keyframes | None = None,
        *,
        rate: float = 2e-3,
        precision: torch.dtype = torch.bfloat16,
        consistency: Consistency | None = None,
        native: bool = True,
    ) -> None:
        """`streams` yields frames uint8, latents, and actions; neither `tokenizer` nor `objects`,
        which the head reads if there are any, are trained; samples look up `keyframes`, as in play.
        Products are computed in `precision`; some parts are `native` where that can be."""
        self.model = self._dynamics = dynamics
        # what is not trained is rounded once, not in every call; the numbers are the same
        self._tokenizer = copy.deepcopy(tokenizer).to(precision).requires_grad_(False)
        self._objects, self._keyframes = objects, keyframes
        self.optimizers = matrix_optimizers(dynamics, rate, inside=("layers.",))
        self.streams = streams
        self._device, self._precision = device_of(dynamics), precision
        size = tokenizer.config.height, tokenizer.config.width
        self._pictures = pictures_for(library_for(self._device) if native else None, size)
        self._paint = PaintLoss(self._device, precision=precision)
        self._consistency = consistency
        self._lanes: Lanes | None = None

    def update(self, progress: float) -> dict[str, Tensor]:
        chunk = self.streams.next()
        pixels = fetch_pixels(chunk.arrays[0], self._device)
        latents = fetch(chunk.arrays[1], self._device).float()
        actions = self._dynamics.told(fetch(chunk.arrays[2], self._device))
        known = actions.clone()
        known[torch.rand(len(known)) < FORGET_ACTIONS] = self._dynamics.unknown_action
        lanes = self._begin(
            pixels[:, 0], latents[:, 0], fetch(chunk.jumped, self._device), progress
        )
        lanes.before = pixels[:, -2]
        with lowered(self._device, self._precision):
            free_ticks = self._free_ticks(progress, latents.shape[1] - 1)
            context = self._context(lanes, pixels, latents, known, actions, free_ticks)
            frames = self._frames(lanes, context, known, actions)
            target, real = latents[:, 1:].flatten(0, 1), pixels[:, 1:].flatten(0, 1)
            age = context.age.flatten()
            before = context.pictures.flatten(0, 1), pixels[:, :-1].flatten(0, 1)
            losses = self._losses(frames, age, target, real, before, judged=progress >= CRITIC_FROM)
        take_step(self.optimizers, losses["loss"], self.model)
        return {k: v.detach() for k, v in losses.items()}

    def state_dict(self) -> dict[str, Tensor]:
        """What the lanes carry, and the critic."""
        critic = {f"critic.{k}": v for k, v in self._paint.state_dict().items()}
        lanes = {} if self._lanes is None else self._lanes.state_dict()
        return {**critic, **{f"lanes.{k}": v for k, v in lanes.items()}}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state_dict`."""
        self._paint.load_state_dict(part_of(state, "critic."))
        lanes = {k: v.to(self._device) for k, v in part_of(state, "lanes.").items()}
        self._lanes = Lanes.from_state_dict(lanes) if lanes else None

    def _begin(self, picture: Tensor, latent: Tensor, jumped: Tensor, progress: float) -> Lanes:
        fresh = replace(self._dynamics.initial_state(len(latent)), latent=latent)
        if self._lanes is None:
            nobody = torch.zeros_like(jumped)
            self._lanes = Lanes(
                state=fresh,
                latent=latent,
                picture=picture,
                motion=self._match(picture, picture),
                before=picture,
                free=nobody,
            )
        # a lane that runs free for less than a chunk is led again at the next one
        led = jumped if progress >= FREE_FULL else torch.ones_like(jumped)
        before = torch.where(jumped[:, None, None, None], picture, self._lanes.before)
        motion = self._match(before, picture)
        self._lanes.lead(latent, picture, motion, led, may_free=progress >= FREE_FROM)
        self._lanes.restart(fresh, jumped)
        return self._lanes

    def _context(
        self,
        lanes: Lanes,
        pixels: Tensor,
        latents: Tensor,
        known: Tensor,
        actions: Tensor,
        free_ticks: int,
    ) -> Context:
        """Real frames, some with noise and blur; the last `free_ticks` of free lanes are what the
        model imagines."""
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
                lanes.motion[rows] = self._match(pixels[rows, begin - 1], pixels[rows, begin])
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

    @staticmethod
    def _free_ticks(progress: float, ticks: int) -> int:
        """How long a free lane runs free in a chunk of `ticks`."""
        ramp = (progress - FREE_FROM) / (FREE_FULL - FREE_FROM)
        return min(ticks, FREE_TICKS + int(max(ramp, 0.0) * (ticks - FREE_TICKS)))

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
                self._move,
                noise=noise,
                steps=SAMPLE_STEPS,
                dither=None if is_mean else dither(ticks + t),
            )
            latent = latent.float()
            if self._keyframes is not None and noise is not None:
                latent = self._keyframes(latent, moved.is_recalled(noise))
            picture = self._tokenizer.decoder(latent, moved.latent, moved.picture).clamp(-1, 1)
            motion = told_by(moved.flow, self._match(pictures[-1], picture))
        lanes.latent[rows], lanes.picture[rows], lanes.motion[rows] = latent, picture, motion
        return (
            torch.stack(latents, dim=1),
            torch.stack(pictures, dim=1),
            torch.stack(motions, dim=1),
        )

    def _frames(self, lanes: Lanes, context: Context, known: Tensor, actions: Tensor) -> Frames:
        """Read the chunk and move its pictures."""
        seen = context.latents
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
            self._move,
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

    def _losses(
        self,
        frames: Frames,
        age: Tensor,
        target: Tensor,
        real: Tensor,
        before: tuple[Tensor, Tensor],
        *,
        judged: bool,
    ) -> dict[str, Tensor]:
        """All losses: `target` (N, P, C) and `real` (N, 3, H, W) are what really came, `age` (N,)
        says for how long the past had been imagined, `before` what was shown a tick earlier, in
        the model's context and in the real clip."""
        head, imagined, near = self._dynamics.head, age > 0, age <= NEAR_TICKS
        lesson = exercise(head, frames, target)
        rows = lesson.is_mean.nonzero()[:, 0]
        rows = rows[torch.randperm(len(rows))[:PICTURES]]
        painted = self._decode(frames.pick(rows), lesson.predicted[rows])
        losses = {
            "latent": lesson.error.mean(),
            "moved": self._pictures.motion_loss(frames.moved.picture, real, near),
            "paint": reconstruction_loss(painted, real[rows]),
        }
        rows = torch.randperm(len(real))[:PICTURES]
        part = frames.pick(rows)
        painted = self._decode(part, part.sample(head, SAMPLE_STEPS))
        opinion = self._paint(painted, real[rows], judged=judged, faithful=FAITHFUL)
        losses |= {"sample": opinion.pop("paint"), **opinion}
        losses["consist"] = torch.zeros(())
        if self._consistency is not None:
            some = self._consistency.pick(age[rows])
            at = rows[some]
            losses["consist"] = self._consistency(
                before[0][at], painted[some], before[1][at], real[at], frames.actions[at]
            )
        losses["news"] = torch.zeros(())
        for chosen, free in ((~imagined, False), (imagined & near, True)):
            rows = chosen.nonzero()[:, 0]
            rows = rows[torch.randperm(len(rows))[:NEWS]]
            if len(rows):
                part = frames.pick(rows)
                losses["news"] = losses["news"] + news_loss(
                    part.moved, real[rows], self._pictures, free=free
                )
        losses["loss"] = (
            losses["latent"]
            + MOVED_WEIGHT * losses["moved"]
            + PICTURE_WEIGHT * (losses["paint"] + losses["sample"])
            + NEWS_WEIGHT * losses["news"]
            + CONSIST_WEIGHT * losses["consist"]
        )
        led = (frames.levels == 0) & lesson.is_mean & ~imagined
        if led.any():
            unchanged = (frames.moved.latent - target).square().mean(dim=(1, 2))
            losses |= {"led": lesson.error[led].mean(), "unchanged": unchanged[led].mean()}
        if (imagined & lesson.is_mean).any():
            losses["free"] = lesson.error[imagined & lesson.is_mean].mean()
        return losses

    @torch.no_grad()
    def _match(self, before: Tensor, picture: Tensor) -> Tensor:
        return self._pictures.match(before, picture, self._tokenizer.config.grid)

    def _move(self, picture: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
        """As `Tokenizer.move`."""
        moved = self._pictures.move(picture, flow)
        with torch.no_grad():  # rounded before it is rearranged: half the bytes, the same numbers
            return moved, self._tokenizer.encoder(moved.to(self._precision))

    def _decode(self, frames: Frames, latents: Tensor) -> Tensor:
        """(N, P, C) -> (N, 3, H, W)."""
        m = frames.moved
        painted: Tensor = self._tokenizer.decoder(latents, m.latent, m.picture)
        return painted


def _blur(pixels: Tensor, share: Tensor) -> Tensor:
    """(T, 3, H, W), blurred to the `share` () 0..1: decoded pictures are soft."""
    soft = F.interpolate(F.avg_pool2d(pixels, 2), scale_factor=2, mode="bilinear")
    return torch.lerp(pixels, soft, share)
