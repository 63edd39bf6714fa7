"""The late half of a tick up to the latent: from a state and an action to what is to be painted.

The head moves the last picture and predicts what is new in it; what the player has seen before, or
the footage, gives some of that. `worldsim.dynamics.draw`, in the parts that a backend computes.

Shapes: B players, P tokens, C channels, K slots, D numbers of a slot.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from worldsim.backends.parts import Parts
from worldsim.dynamics import Moved
from worldsim.dynamics.kept import find, mix, share_taken
from worldsim.dynamics.whole import dither, no_dither
from worldsim.model import WorldModel
from worldsim.state import WorldState


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What follows an action, before it is painted."""

    latent: Tensor  # (B, P, C)
    moved: Moved  # the last picture, moved, from which it starts
    slots: Tensor | None = None  # (B, K, D), where the action takes the objects, if there are any
    pose: Tensor | None = None  # (B, 4), from which this is seen; None in one without keyframes


def draw(
    model: WorldModel,
    parts: Parts,
    state: WorldState,
    action: Tensor,
    noise: Tensor | None,
    steps: int,
) -> Drawn:
    """What follows `action`, int (B,) or float (B, A), out of `noise` (B, P, C) in `steps` flow
    steps; the mean of what may follow if `noise` is None."""
    first = torch.zeros_like(state.latent) if noise is None else noise
    size = 1 / (steps := 1 if noise is None else steps)
    clocks = first.new_tensor([[i * size, size, 0.0] for i in range(steps)])
    clock, *later = clocks[:, None].expand(-1, state.batch, -1)
    shown = (state.context, state.latent, state.before, state.motion, state.picture)
    slots = () if state.slots is None else (state.slots,)
    rounding = no_dither(state.batch, first) if noise is None else dither(state.tick)
    found = parts.run("move", *shown, action, first, clock, rounding, *slots)
    moved, latent = Moved(*found[:5]), found[5]
    for clock in later:
        (latent,) = parts.run("refine", latent, clock, moved.features, moved.latent, action)
    drawn = Drawn(
        latent=moved.compose(latent, noise), moved=moved, slots=found[6] if slots else None
    )
    return drawn if model.keyframes is None else _recall(model, parts, state, drawn, noise)


def noise_of(state: WorldState, scale: float) -> Tensor | None:
    """(B, P, C), of the standard deviation `scale`, None if that is 0: a function of each player's
    seed and tick, so that it needs no state."""
    if scale == 0:
        return None
    noise = torch.empty(state.latent.shape)
    for row, (seed, tick) in enumerate(zip(state.seed.tolist(), state.tick.tolist(), strict=True)):
        generator = torch.Generator().manual_seed((seed * 1_000_003 + tick) % 2**63)
        noise[row].normal_(generator=generator)
    return noise.mul_(scale).to(state.latent.device)


def _recall(
    model: WorldModel, parts: Parts, state: WorldState, drawn: Drawn, noise: Tensor | None
) -> Drawn:
    """With some of it from where the player was before, or else from a frame of the footage."""
    moved, seen = drawn.moved, state.seen
    assert seen is not None, "states of a world with keyframes are complete"
    step, sure = model.pose_change(moved.flow), moved.sure(noise)
    here = replace(seen, pose=seen.pose + step)
    again, is_alike, pose = find(here, drawn.latent, sure, state.tick + 1)
    latent = mix(drawn.latent, again, share_taken(sure, step[:, 3], is_alike), noise)
    if noise is not None:
        is_recalled = moved.is_recalled(noise) & ~is_alike[:, None]
        (latent,) = parts.run("recall", latent, is_recalled)
    return replace(drawn, latent=latent, pose=pose)
