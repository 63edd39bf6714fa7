"""Training of the dynamics on streams of latents and actions.

Each lane carries its memory from chunk to chunk. Per frame the head learns one of three things:
the mean (zero noise), the flow (a point between noise and truth), or the shortcut (one big step
where two small ones arrive). Late in the run some lanes run free: their context is what the model
itself imagined, tick after tick, and the truth is still the target, which is what keeps a long
rollout from drifting away.

An error of a latent is not an error that one sees: for some frames the prediction is also decoded
and compared with the real picture.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from worldsim.dynamics import Dynamics, TrunkState
from worldsim.dynamics import flow as flows
from worldsim.tokenizer import DecoderCache, to_pixels
from worldsim.tokenizer.decoder import Decoder
from worldsim.tokenizer.losses import edge_loss
from worldsim.training.loop import matrix_optimizers
from worldsim.training.streams import Streams

Predict = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # x, time, step size, rows -> z

MEAN_SHARE, SHORTCUT_SHARE = 0.5, 0.15  # the rest learns the flow
FREE_FROM = 0.4  # of the way: lanes run free from here on
FREE_SHARE = 0.5  # of the lanes
FREE_STOP = 0.35  # chance per chunk that a free lane is put back on real frames
CONTEXT_NOISE = 0.4  # at most, against tokens of unit root mean square
PICTURES = 16  # decoded per update
PICTURE_WEIGHT = 1.0
FORGET_ACTIONS = 0.1  # share of chunks whose past actions are hidden from the trunk


class DynamicsStage:
    name = "dynamics"

    def __init__(
        self, model: Dynamics, decoder: Decoder, streams: Streams, *, rate: float = 2e-3
    ) -> None:
        """`streams` yields frames uint8, latents and actions; `decoder` is not trained."""
        self.model = model
        self._decoder = decoder.requires_grad_(False)
        self.optimizers = matrix_optimizers(model, rate, inside=(".layers.",))
        self._streams = streams
        self._state: TrunkState | None = None
        self._imagined: Tensor | None = None  # (L, P, C): where each lane's own rollout stands
        self._free: Tensor | None = None  # (L,) lanes that run free

    def update(self, progress: float) -> dict[str, Tensor]:
        chunk = self._streams.next()
        frames = torch.from_numpy(np.asarray(chunk.arrays[0]))
        latents = torch.from_numpy(np.asarray(chunk.arrays[1])).float()
        actions = torch.from_numpy(np.asarray(chunk.arrays[2])).long()
        actions[actions < 0] = self.model.unknown_action
        jumped = torch.from_numpy(chunk.jumped)
        state, context = self._begin(latents, jumped, progress)
        known = actions.clone()
        known[torch.rand(len(known)) < FORGET_ACTIONS] = self.model.unknown_action
        with torch.autocast("cpu", torch.bfloat16):
            context, levels = self._context(context, latents, known, actions, state)
            memory, after = self.model.trunk(context, known[:, :-1], levels, state)
            before = torch.cat([state.latent[:, None], context[:, :-1]], dim=1)
            predicted, losses = self._losses(
                memory, context, before, levels, actions[:, 1:], latents[:, 1:]
            )
            losses["picture"] = self._picture_loss(frames, latents, predicted)
            losses["loss"] = losses["loss"] + PICTURE_WEIGHT * losses["picture"]
        self._keep(after)
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        losses["loss"].backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        return {k: v.detach() for k, v in losses.items()}

    def _begin(self, latents: Tensor, jumped: Tensor, progress: float) -> tuple[TrunkState, Tensor]:
        """State of each lane before the chunk, and the frame that each lane starts from."""
        fresh = replace(self.model.initial_state(len(latents)), latent=latents[:, 0])
        if self._state is None or self._free is None or self._imagined is None:
            self._free = torch.zeros(len(latents), dtype=torch.bool)
            self._state, self._imagined = fresh, latents[:, 0]
            jumped = torch.ones_like(jumped)
        stop = (torch.rand(len(latents)) < FREE_STOP) | jumped
        may_start = (torch.rand(len(latents)) < FREE_SHARE) & (progress >= FREE_FROM)
        first = torch.where((self._free & ~stop)[:, None, None], self._imagined, latents[:, 0])
        self._free = torch.where(stop | ~self._free, may_start, self._free)
        memory = tuple(
            torch.where(jumped.view(-1, 1, 1, 1, 1), new, old)
            for new, old in zip(fresh.memory, self._state.memory, strict=True)
        )
        last = torch.where(jumped[:, None, None], fresh.latent, self._state.latent)
        return TrunkState(memory=memory, latent=last), first

    def _context(
        self, first: Tensor, latents: Tensor, known: Tensor, actions: Tensor, state: TrunkState
    ) -> tuple[Tensor, Tensor]:
        """What the trunk reads: real latents with noise, or what a free lane imagined."""
        assert self._free is not None
        lanes, ticks = len(latents), latents.shape[1] - 1
        level = CONTEXT_NOISE * torch.rand(lanes) * (torch.rand(lanes) < 0.6)
        level = level * ~self._free
        noise = torch.randn_like(latents[:, :-1])
        context = latents[:, :-1] + level[:, None, None, None] * noise
        if self._free.any():
            free = self._free.nonzero()[:, 0]
            rows = TrunkState(tuple(m[free] for m in state.memory), state.latent[free])
            context[free], end = self._imagine(first[free], known[free], actions[free], rows)
            self._imagined = latents[:, -1].clone()
            self._imagined[free] = end
        else:
            self._imagined = latents[:, -1]
        return context, level[:, None].expand(lanes, ticks)

    @torch.no_grad()
    def _imagine(
        self, latent: Tensor, known: Tensor, actions: Tensor, state: TrunkState
    ) -> tuple[Tensor, Tensor]:
        """Run free from `latent`: the T latents of the chunk and the one after them."""
        frames, level = [], latent.new_zeros(len(latent))
        steps = 1 if torch.rand(()) < 0.5 else 2
        for t in range(actions.shape[1] - 1):
            frames.append(latent)
            before = state.latent
            memory, state = self.model.trunk.step(latent, known[:, t], level, state)
            latent = self.model.predict(
                memory, latent, before, actions[:, t + 1], level,
                noise=torch.randn_like(latent), steps=steps,
            ).float()  # fmt: skip
        return torch.stack(frames, dim=1), latent

    def _losses(
        self,
        memory: Tensor,
        context: Tensor,
        before: Tensor,
        levels: Tensor,
        actions: Tensor,
        target: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Predicted latents (L * T, P, C), and the losses on them."""
        memory, context, before, target = (
            x.flatten(0, 1) for x in (memory, context, before, target)
        )
        levels, actions = levels.flatten(), actions.flatten()

        def predict(x: Tensor, time: Tensor, size: Tensor, rows: Tensor) -> Tensor:
            clock = torch.stack([time.flatten(), size.flatten(), levels[rows]], dim=-1)
            z: Tensor = self.model.head(
                x, clock, memory[rows], context[rows], before[rows], actions[rows]
            )
            return z.float()

        noisy, time, size, wanted, is_mean = self._exercises(target, predict)
        everywhere = torch.arange(len(target))
        predicted = predict(noisy, time, size, everywhere)
        error = (predicted - wanted).square().mean(dim=(1, 2))
        still = (context - target).square().mean(dim=(1, 2))
        clean = is_mean & (levels == 0)
        return predicted, {
            "loss": error.mean(),
            "mean": error[is_mean].mean(),
            "gain_db": 10 * torch.log10(still[clean].mean() / error[clean].mean()),
        }

    def _picture_loss(self, frames: Tensor, latents: Tensor, predicted: Tensor) -> Tensor:
        """Decode some of the predictions after the real frame before them, and compare."""
        assert self._free is not None
        ticks = frames.shape[1] - 1
        led = (~self._free).repeat_interleave(ticks).nonzero()[:, 0]
        rows = led[torch.randperm(len(led))[:PICTURES]]
        lane, tick = rows // ticks, rows % ticks
        cache = DecoderCache(to_pixels(frames[lane, tick]), latents[lane, tick])
        pixels, _ = self._decoder.step(predicted[rows], cache)
        real = to_pixels(frames[lane, tick + 1])
        return (pixels - real).abs().mean() + edge_loss(pixels, real)

    def _exercises(
        self, target: Tensor, predict: Predict
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """What each frame learns: input, time and step size (N, 1, 1), target, is it the mean."""
        n = len(target)
        kind = torch.rand(n)
        is_mean, is_shortcut = kind < MEAN_SHARE, kind > 1 - SHORTCUT_SHARE
        finest = 1 / flows.STEPS[-1]
        time = torch.randint(flows.STEPS[-1], (n,)) * finest
        size = torch.full((n,), finest)
        big = torch.where(torch.rand(n) < 0.5, 0.5, 1.0)
        size = torch.where(is_shortcut, big, size)
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

    def _keep(self, after: TrunkState) -> None:
        self._state = TrunkState(tuple(m.detach() for m in after.memory), after.latent.detach())
