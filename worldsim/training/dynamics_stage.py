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

import torch
from torch import Tensor

from worldsim.dynamics import Dynamics
from worldsim.dynamics.keyframes import Keyframes
from worldsim.dynamics.objects import Objects
from worldsim.tokenizer import Tokenizer
from worldsim.tokenizer.losses import reconstruction_loss
from worldsim.training.consistency import WEIGHT as CONSIST_WEIGHT
from worldsim.training.consistency import Consistency
from worldsim.training.device import device_of, fetch, fetch_pixels, lowered, precision_of
from worldsim.training.exercises import Frames, exercise, news_loss
from worldsim.training.imagine import SAMPLE_STEPS, Imagination
from worldsim.training.lanes import Lanes
from worldsim.training.loop import matrix_optimizers, take_step
from worldsim.training.native import library_for
from worldsim.training.paint import PaintLoss, part_of
from worldsim.training.pictures import pictures_for
from worldsim.training.streams import Streams

FORGET_ACTIONS = 0.1  # share of chunks whose past actions are hidden from the trunk
PICTURES = 16  # means that are decoded per update, and as many samples
NEWS = 32  # frames on either side whose news are judged per update
# an imagined past is soon in another place than the real one: then all would be new, and motion
# would be what leads back there
NEAR_TICKS = 6
PICTURE_WEIGHT, MOVED_WEIGHT, NEWS_WEIGHT = 0.3, 2.0, 0.2
CRITIC_FROM = 0.1  # of the way: before, samples are wrong in ways that need no critic
FAITHFUL = 0.3  # of a sample to the frame that really came


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
        precision: torch.dtype | None = None,
        consistency: Consistency | None = None,
        native: bool = True,
    ) -> None:
        """`streams` yields frames uint8, latents, and actions; neither `tokenizer` nor `objects`,
        which the head reads if there are any, are trained; samples look up `keyframes`, as in play.
        Products are computed in `precision`, or what suits the device; some parts are `native`
        where that can be."""
        self.model = self._dynamics = dynamics
        self.optimizers = matrix_optimizers(dynamics, rate, inside=("layers.",))
        self.streams = streams
        self._device = device_of(dynamics)
        self._precision = precision = precision or precision_of(self._device)
        size = tokenizer.config.height, tokenizer.config.width
        self._pictures = pictures_for(library_for(self._device) if native else None, size)
        self._paint = PaintLoss(self._device, precision=precision)
        self._imagination = Imagination(
            dynamics, tokenizer, objects, keyframes, self._pictures, precision
        )
        self._consistency = consistency

    def update(self, progress: float) -> dict[str, Tensor]:
        chunk = self.streams.next()
        pixels = fetch_pixels(chunk.arrays[0], self._device)
        latents = fetch(chunk.arrays[1], self._device).float()
        actions = self._dynamics.told(fetch(chunk.arrays[2], self._device))
        known = self.known(actions)
        imagination = self._imagination
        imagination.begin(pixels, latents, fetch(chunk.jumped, self._device), progress)
        with lowered(self._device, self._precision):
            context = imagination.context(pixels, latents, known, actions, progress)
            frames = imagination.frames(context, known, actions)
            target, real = latents[:, 1:].flatten(0, 1), pixels[:, 1:].flatten(0, 1)
            age = context.age.flatten()
            before = context.pictures.flatten(0, 1), pixels[:, :-1].flatten(0, 1)
            losses = self._losses(frames, age, target, real, before, judged=progress >= CRITIC_FROM)
        take_step(self.optimizers, losses["loss"], self.model)
        return {k: v.detach() for k, v in losses.items()}

    def known(self, actions: Tensor) -> Tensor:
        """What the trunk is told of `actions`, (L, T + 1) or (L, T + 1, A): all or nothing."""
        known = actions.clone()
        known[torch.rand(len(known)) < FORGET_ACTIONS] = self._dynamics.unknown_action
        return known

    def state_dict(self) -> dict[str, Tensor]:
        """What the lanes carry, and the critic."""
        critic = {f"critic.{k}": v for k, v in self._paint.state_dict().items()}
        lanes = self._imagination.lanes
        kept = {} if lanes is None else lanes.state_dict()
        return {**critic, **{f"lanes.{k}": v for k, v in kept.items()}}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state_dict`."""
        self._paint.load_state_dict(part_of(state, "critic."))
        lanes = {k: v.to(self._device) for k, v in part_of(state, "lanes.").items()}
        self._imagination.lanes = Lanes.from_state_dict(lanes) if lanes else None

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
        painted = self._imagination.decode(frames.pick(rows), lesson.predicted[rows])
        losses = {
            "latent": lesson.error.mean(),
            "moved": self._pictures.motion_loss(frames.moved.picture, real, near),
            "paint": reconstruction_loss(painted, real[rows]),
        }
        rows = torch.randperm(len(real))[:PICTURES]
        part = frames.pick(rows)
        painted = self._imagination.decode(part, part.sample(head, SAMPLE_STEPS))
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
