"""Training of the dynamics on streams of latents, pictures and actions.

Each lane carries its memory from chunk to chunk. Per frame the mover learns to move the last
picture onto the next one, and the head learns one of three things: the mean (zero noise), the flow
(a point between noise and truth), or the shortcut (one big step where two small ones arrive). After a while some lanes run free: their context is what the model
itself imagined, tick after tick, latent and picture, and the truth is still the target, which is
what keeps a long rollout from drifting away.

An error of a latent is not an error that one sees: some predictions are also decoded and compared
with the real picture. The decoder itself stays as it is: trained along, under a harder critic, it
lost 3 dB on real frames (docs/log.md).

Shapes: L lanes, T ticks, N = L * T, P tokens, C channels, H W picture.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from worldsim.dynamics import Dynamics, TrunkState
from worldsim.dynamics import flow as flows
from worldsim.dynamics.head import Moved
from worldsim.tokenizer import Tokenizer, to_pixels
from worldsim.tokenizer.losses import reconstruction_loss
from worldsim.training.lanes import Lanes
from worldsim.training.loop import matrix_optimizers, take_step
from worldsim.training.streams import Streams

Predict = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # x, time, step size, rows -> z

MEAN_SHARE, SHORTCUT_SHARE = 0.5, 0.15  # the rest learns the flow
FREE_FROM, FREE_FULL = 0.15, 1.0  # of the way: some lanes run free, for longer and longer
FREE_TICKS = 4  # at first; at last whole chunks, and from FREE_FULL on into the next ones
CONTEXT_NOISE = 0.4  # at most, against tokens of unit root mean square
FORGET_ACTIONS = 0.1  # share of chunks whose past actions are hidden from the trunk
PICTURES = 24  # predictions that are decoded per update
PICTURE_WEIGHT, MOVED_WEIGHT = 0.3, 1.0
COARSER = 3  # halvings of the picture in the loss of the motion


@dataclass(frozen=True)
class Context:
    """What trunk and mover see of a chunk."""

    latents: Tensor  # (L, T, P, C)
    pictures: Tensor  # (L, T, 3, H, W)
    levels: Tensor  # (L, T), standard deviation of the noise in the latents


class DynamicsStage:
    name = "dynamics"

    def __init__(
        self, dynamics: Dynamics, tokenizer: Tokenizer, streams: Streams, *, rate: float = 2e-3
    ) -> None:
        """`streams` yields frames uint8, latents, and actions; `tokenizer` is not trained."""
        self.model = self._dynamics = dynamics
        self._tokenizer = tokenizer.requires_grad_(False)
        self.optimizers = matrix_optimizers(dynamics, rate, inside=("layers.",))
        self.streams = streams
        self._lanes: Lanes | None = None

    def update(self, progress: float) -> dict[str, Tensor]:
        chunk = self.streams.next()
        pixels = to_pixels(torch.from_numpy(np.asarray(chunk.arrays[0])))
        latents = torch.from_numpy(np.asarray(chunk.arrays[1])).float()
        actions = torch.from_numpy(np.asarray(chunk.arrays[2])).long()
        actions[actions < 0] = self._dynamics.unknown_action
        known = actions.clone()
        known[torch.rand(len(known)) < FORGET_ACTIONS] = self._dynamics.unknown_action
        lanes = self._begin(pixels[:, 0], latents[:, 0], torch.from_numpy(chunk.jumped), progress)
        with torch.autocast("cpu", torch.bfloat16):
            free_ticks = self._free_ticks(progress, latents.shape[1] - 1)
            context = self._context(lanes, pixels, latents, known, actions, free_ticks)
            losses, predicted, moved = self._predict(
                lanes, context, known, actions, latents, pixels
            )
            painted, real = self._decode(predicted, moved, pixels)
        losses["paint"] = reconstruction_loss(painted, real)
        losses["loss"] = (
            losses["latent"] + MOVED_WEIGHT * losses["moved"] + PICTURE_WEIGHT * losses["paint"]
        )
        take_step(self.optimizers, losses["loss"], self.model)
        return {k: v.detach() for k, v in losses.items()}

    def state_dict(self) -> dict[str, Tensor]:
        """What the lanes carry."""
        return {} if self._lanes is None else self._lanes.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state_dict`."""
        self._lanes = Lanes.from_state_dict(state) if state else None

    def _begin(self, picture: Tensor, latent: Tensor, jumped: Tensor, progress: float) -> Lanes:
        fresh = replace(self._dynamics.initial_state(len(latent)), latent=latent)
        if self._lanes is None:
            nobody = torch.zeros_like(jumped)
            self._lanes = Lanes(state=fresh, latent=latent, picture=picture, free=nobody)
        # a lane that runs free for less than a chunk is led again at the next one
        led = jumped if progress >= FREE_FULL else torch.ones_like(jumped)
        self._lanes.lead(latent, picture, led, may_free=progress >= FREE_FROM)
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
        noised = level.nonzero()[:, 0]
        shown[noised] = _blur(shown[noised], level[noised].view(-1, 1, 1, 1, 1) / CONTEXT_NOISE)
        lanes.latent, lanes.picture = lanes.latent.clone(), lanes.picture.clone()
        if lanes.free.any():
            rows, state = lanes.free_rows()
            begin = latents.shape[1] - 1 - free_ticks
            if begin:
                zeros = latents.new_zeros(len(rows), begin)
                _, state = self._read(latents[rows, :begin], known[rows, :begin], zeros, state)
                lanes.latent[rows], lanes.picture[rows] = latents[rows, begin], pixels[rows, begin]
            seen[rows, begin:], shown[rows, begin:] = self._imagine(
                lanes, state, known[:, begin:], actions[:, begin:]
            )
        return Context(seen, shown, level[:, None].expand(count, ticks))

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
    ) -> tuple[Tensor, Tensor]:
        """Play on from where the free lanes stand and leave them where it ends: latents and
        pictures on the way, first one included."""
        rows = lanes.free.nonzero()[:, 0]
        latent, picture = lanes.latent[rows], lanes.picture[rows]
        latents, pictures = [], []
        steps = 1 if torch.rand(()) < 0.5 else 2
        for t in range(actions.shape[1] - 1):
            latents.append(latent)
            pictures.append(picture)
            before = state.latent
            memory, state = self._dynamics.trunk.step(
                latent, known[rows, t], latent.new_zeros(len(rows)), state
            )
            latent, moved = self._dynamics.predict(
                memory,
                latent,
                before,
                actions[rows, t + 1],
                partial(self._tokenizer.move, picture),
                noise=torch.randn_like(latent),
                steps=steps,
            )
            latent = latent.float()
            picture = self._tokenizer.decoder(latent, moved.latent, moved.picture).clamp(-1, 1)
        lanes.latent[rows], lanes.picture[rows] = latent, picture
        return torch.stack(latents, dim=1), torch.stack(pictures, dim=1)

    def _predict(
        self,
        lanes: Lanes,
        context: Context,
        known: Tensor,
        actions: Tensor,
        latents: Tensor,
        pixels: Tensor,
    ) -> tuple[dict[str, Tensor], Tensor, Moved]:
        """Losses on the latents and on the moved pictures, and the predictions (N, P, C)."""
        seen = context.latents
        before = torch.cat([lanes.state.latent[:, None], seen[:, :-1]], dim=1)
        memory, after = self._dynamics.trunk(seen, known[:, :-1], context.levels, lanes.state)
        lanes.keep(after)
        chosen, levels = actions[:, 1:].flatten(), context.levels.flatten()
        moved = self._dynamics.head.move(
            memory.flatten(0, 1),
            seen.flatten(0, 1),
            before.flatten(0, 1),
            chosen,
            partial(self._tokenizer.move, context.pictures.flatten(0, 1)),
        )

        def predict(x: Tensor, time: Tensor, size: Tensor, rows: Tensor) -> Tensor:
            clock = torch.stack([time.flatten(), size.flatten(), levels[rows]], dim=-1)
            part = Moved(moved.picture[rows], moved.latent[rows], moved.features[rows])
            z: Tensor = self._dynamics.head(x, clock, part, chosen[rows])
            return z.float()

        target = latents[:, 1:].flatten(0, 1)
        noisy, time, size, wanted, is_mean = exercises(target, predict)
        predicted = predict(noisy, time, size, torch.arange(len(target)))
        error = (predicted - wanted).square().mean(dim=(1, 2))
        led = (levels == 0) & is_mean & ~lanes.free.repeat_interleave(seen.shape[1])
        unchanged = (moved.latent - target).square().mean(dim=(1, 2))
        losses = {
            "latent": error.mean(),
            "moved": motion_loss(moved.picture, pixels[:, 1:].flatten(0, 1)),
            "mean": error[is_mean].mean(),
            "led": error[led].mean() if led.any() else error.mean(),
            "unchanged": unchanged[led].mean() if led.any() else unchanged.mean(),
        }
        return losses, predicted, moved

    def _decode(self, predicted: Tensor, moved: Moved, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Some of the predictions as pictures, and the real ones: (PICTURES, 3, H, W) twice."""
        rows = torch.randperm(len(predicted))[:PICTURES]
        painted = self._tokenizer.decoder(predicted[rows], moved.latent[rows], moved.picture[rows])
        return painted, pixels[:, 1:].flatten(0, 1)[rows]


def motion_loss(moved: Tensor, real: Tensor) -> Tensor:
    """L1 between (N, 3, H, W) pictures, fine and coarse: a brick that is half a brick off looks
    right from close by, and only from far off does one see where it should go."""
    difference = moved - real
    loss = difference.abs().mean()
    for _ in range(COARSER):
        difference = F.avg_pool2d(difference, 2)
        loss = loss + difference.abs().mean()
    return loss


def exercises(target: Tensor, predict: Predict) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """What each of N frames learns: input, time and step size (N, 1, 1), target, is it the mean."""
    n = len(target)
    kind = torch.rand(n)
    is_mean, is_shortcut = kind < MEAN_SHARE, kind > 1 - SHORTCUT_SHARE
    finest = 1 / flows.STEPS[-1]
    time = torch.randint(flows.STEPS[-1], (n,)) * finest
    size = torch.where(is_shortcut, torch.where(torch.rand(n) < 0.5, 0.5, 1.0), finest)
    time = torch.where(is_shortcut, (time >= 0.5) * (size < 1) * 0.5, time)
    time, size = torch.where(is_mean, 0.0, time), torch.where(is_mean, 1.0, size)
    time, size = time.view(-1, 1, 1), size.view(-1, 1, 1)
    noisy = flows.mix(target, torch.randn_like(target), time)
    noisy[is_mean] = 0.0
    wanted = target.clone()
    rows = is_shortcut.nonzero()[:, 0]
    with torch.no_grad():
        wanted[rows] = flows.shortcut_target(
            lambda x, t, s: predict(x, t, s, rows), noisy[rows], time[rows], size[rows]
        )
    return noisy, time, size, wanted, is_mean


def _blur(pixels: Tensor, share: Tensor) -> Tensor:
    """(L, T, 3, H, W), blurred to the `share` (L, 1, 1, 1, 1) 0..1: decoded pictures are soft."""
    flat = pixels.flatten(0, 1)
    soft = F.interpolate(F.avg_pool2d(flat, 2), scale_factor=2, mode="bilinear")
    return torch.lerp(pixels, soft.unflatten(0, pixels.shape[:2]), share)
