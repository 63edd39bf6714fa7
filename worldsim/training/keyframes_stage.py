"""Training of the keyframe adapter alone: when is what was kept better than what is made up?

Lanes walk through long footage with the trunk's memory and the keyframes carried along. In every
chunk the frozen world goes on by itself from the chunk's first frame, by means or by samples, with
what the adapter takes from real keyframes; the truth stays the target. Token by token the adapter
learns the probability p of taking what a keyframe offers from what either would have cost:

    loss = mean over tokens on offer of  p |z_kept - z|^2 + (1 - p) |z_made - z|^2

Shapes: L lanes, T ticks, P tokens, C channels.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from worldsim.dynamics import Dynamics, TrunkState
from worldsim.dynamics.matching import match
from worldsim.dynamics.recall import Keyframes, Recall
from worldsim.state import keyframe_tensors
from worldsim.tokenizer import Tokenizer, to_pixels
from worldsim.training.loop import take_step
from worldsim.training.streams import Streams

MEAN_CHUNKS = 0.5  # imagine means, the rest samples
HOLD = 4  # ticks: what one tick moves is too little against what never moves
PAIRS = 32  # of frames that are looked at per action
ASIDE = (-18.0, 0.0, 18.0)  # pixels: around these the shift is looked for
LENSES = (100.0, 2.0, 1.5, 1.0, 0.75, 0.6, 0.5, 0.4)  # focal lengths, in widths
KEPT = 16  # keyframes of a world that gets some


@torch.no_grad()
def measure_lens(
    recall: Recall, frames: Sequence[NDArray[np.uint8]], actions: Sequence[NDArray[np.int64]]
) -> None:
    """Fill `recall.lens`: the one with which real pictures (T, H, W, 3) fit best onto those before
    them, where an action is held for HOLD ticks."""
    codes = range(recall.config.num_actions)
    pairs = [few for code in codes if len((few := _held(frames, actions, code))[0])]
    errors = {}
    for lens in LENSES:
        recall.lens.fill_(lens)
        errors[lens] = sum(_registered(recall, *few) for few in pairs)
    recall.lens.fill_(min(LENSES, key=lambda lens: errors[lens]))


def _held(
    frames: Sequence[NDArray[np.uint8]], actions: Sequence[NDArray[np.int64]], code: int
) -> tuple[Tensor, Tensor]:
    """Pictures (N, 3, H, W) before and after HOLD ticks of an action, N <= PAIRS."""
    found = []
    for episode, led in enumerate(actions):
        runs = np.lib.stride_tricks.sliding_window_view(led[1:] == code, HOLD).all(axis=1)
        found += [(episode, int(t)) for t in np.flatnonzero(runs)]
    chosen = np.linspace(0, len(found) - 1, min(PAIRS, len(found))).round().astype(int)

    def pictures(later: int) -> Tensor:
        shown = [frames[e][t + later] for e, t in (found[i] for i in chosen)]
        return to_pixels(torch.from_numpy(np.array(shown))) if shown else torch.zeros(0)

    return pictures(0), pictures(HOLD)


def _registered(recall: Recall, before: Tensor, after: Tensor) -> float:
    """The error of the shift that fits all pairs best together."""
    nothing = torch.zeros(len(before), recall.config.num_tokens, dtype=torch.bool)
    gap = torch.zeros(len(before), 1, 2)
    both = [recall.errors(before[:, None], gap + aside, after, nothing)[0] for aside in ASIDE]
    return float(torch.cat(both, dim=-1).mean(dim=0).min())


class KeyframesStage:
    name = "keyframes"

    def __init__(
        self,
        recall: Recall,
        dynamics: Dynamics,
        tokenizer: Tokenizer,
        streams: Streams,
        *,
        rate: float = 1e-2,
    ) -> None:
        """`streams` yields frames uint8, latents, and actions; only `recall` is trained."""
        self.model = self._recall = recall
        self._dynamics = dynamics.requires_grad_(False)
        self._tokenizer = tokenizer.requires_grad_(False)
        if not recall.decide.weight.any():  # new: half a doubt is where it learns fastest
            nn.init.zeros_(recall.decide.bias)
        trained = [p for p in recall.parameters() if p.requires_grad]
        self.optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(trained, rate)]
        self.streams = streams
        self._state: TrunkState | None = None
        self._kept: Keyframes | None = None

    def update(self, progress: float) -> dict[str, Tensor]:
        chunk = self.streams.next()
        pixels = to_pixels(torch.from_numpy(np.asarray(chunk.arrays[0])))
        latents = torch.from_numpy(np.asarray(chunk.arrays[1])).float()
        actions = self._dynamics.told(torch.from_numpy(np.asarray(chunk.arrays[2])))
        state, kept = self._begin(latents[:, 0], pixels[:, 0], torch.from_numpy(chunk.jumped))
        ticks = latents.shape[1] - 1
        with torch.no_grad():
            levels = latents.new_zeros(len(latents), ticks)
            _, after = self._dynamics.trunk(latents[:, :-1], actions[:, :-1], levels, state)
        is_mean = bool(torch.rand(()) < MEAN_CHUNKS)
        latent, picture = latents[:, 0], pixels[:, 0]
        motion = match(picture, picture, self._tokenizer.config.grid)
        costs, shares, gains = [], [], []
        for t in range(ticks):
            with torch.no_grad():
                before = state.latent
                context, state = self._dynamics.trunk.step(
                    latent, actions[:, t], levels[:, t], state
                )
                made, moved = self._dynamics.predict(
                    context,
                    latent,
                    before,
                    motion,
                    actions[:, t + 1],
                    partial(self._tokenizer.move, picture),
                    noise=None if is_mean else torch.randn_like(latent),
                    steps=1,
                )
            offered = self._recall(kept, moved, self._tokenizer.move)
            target = latents[:, t + 1]
            mine = (made - target).square().mean(dim=-1)
            theirs = (offered.latent - target).square().mean(dim=-1)
            chance = torch.sigmoid(offered.logit)
            costs.append((mine + chance * (theirs - mine))[offered.may])
            shares.append(offered.may)
            gains.append(((mine - theirs) * (offered.logit > 0))[offered.may])
            with torch.no_grad():
                latent, moved = offered.compose(made, moved)
                latent = latent.float()
                shown = self._tokenizer.decoder(latent, moved.latent, moved.picture).clamp(-1, 1)
                motion = match(picture, shown, self._tokenizer.config.grid)
                picture = shown
                kept = self._recall.keep(kept, pixels[:, t + 1], moved.flow)
        self._state, self._kept = after, kept
        cost, gain, share = torch.cat(costs), torch.cat(gains), torch.stack(shares)
        # where nothing is on offer there is nothing to learn, but the update must not be empty
        loss = cost.sum() / max(1, len(cost)) + 0.0 * self._recall.decide.bias.sum()
        take_step(self.optimizers, loss, self.model)
        return {
            "loss": loss.detach(),
            "offered": share.float().mean(),
            "gain": gain.sum() / max(1, len(gain)),
        }

    def state_dict(self) -> dict[str, Tensor]:
        """What the lanes carry."""
        if self._state is None or self._kept is None:
            return {}
        memory = {f"memory.{i}": m for i, m in enumerate(self._state.memory)}
        return {**memory, "read": self._state.latent, **keyframe_tensors(self._kept)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state_dict`."""
        if not state:
            self._state = self._kept = None
            return
        layers = sum(name.startswith("memory.") for name in state)
        memory = tuple(state[f"memory.{i}"] for i in range(layers))
        self._state = TrunkState(memory=memory, latent=state["read"])
        self._kept = Keyframes(
            pictures=state["keyframes"],
            poses=state["keyframe_poses"],
            pose=state["keyframe_pose"],
            count=state["keyframe_count"],
        )

    def _begin(
        self, latent: Tensor, picture: Tensor, jumped: Tensor
    ) -> tuple[TrunkState, Keyframes]:
        """What the lanes carry; those that `jumped` (L,) remember nothing."""
        fresh = replace(self._dynamics.initial_state(len(latent)), latent=latent)
        empty = self._recall.empty(picture)
        if self._state is None or self._kept is None:
            return fresh, self._recall.keep(empty, picture, None)
        rows = jumped.view(-1, 1, 1, 1, 1)
        memory = tuple(
            torch.where(rows, new, old)
            for new, old in zip(fresh.memory, self._state.memory, strict=True)
        )
        last = torch.where(jumped[:, None, None], latent, self._state.latent)
        kept = replace(
            self._kept,
            pose=torch.where(jumped[:, None], empty.pose, self._kept.pose),
            count=torch.where(jumped, empty.count, self._kept.count),
        )
        kept = self._recall.keep(kept, picture, None)  # kept only where nothing is
        return TrunkState(memory=memory, latent=last), kept
