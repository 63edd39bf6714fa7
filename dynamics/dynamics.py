"""Trunk and head together: the next latent, and the memory after it.

Shapes: B batch, T ticks, P tokens, C channels, S places, D width.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from worldsim.dynamics import flow
from worldsim.dynamics.actions import told_actions, unknown_action
from worldsim.dynamics.config import DynamicsConfig
from worldsim.dynamics.head import Head, Move, Moved
from worldsim.dynamics.objects import ObjectsConfig, SlotReader
from worldsim.dynamics.trunk import Trunk, TrunkState


class Dynamics(nn.Module):
    def __init__(self, config: DynamicsConfig, objects: ObjectsConfig | None = None) -> None:
        """`objects`: the slots that the head is to read, if there are any."""
        super().__init__()
        self.config = config
        self.trunk = Trunk(config)
        self.head = Head(config)
        self.reader = SlotReader(objects, config) if objects else None

    @property
    def unknown_action(self) -> float:
        """The action of a tick that nobody recorded: a code, or NaN on every axis."""
        return unknown_action(self.config.num_actions, self.config.axes)

    def told(self, actions: Tensor) -> Tensor:
        """Actions as recorded, (...) with -1 or (..., A) with NaN for unknown, as trunk and head
        take them."""
        return told_actions(actions, self.config.num_actions, self.config.axes)

    def with_slots(self, context: Tensor, slots: Tensor | None) -> Tensor:
        """The trunk's context (B, S, D), and what the head is to know of the slots (B, K, ..)."""
        if self.reader is None or slots is None:
            return context
        read: Tensor = self.reader(slots)
        return context + read.to(context.dtype)

    def predict(
        self,
        context: Tensor,
        latent: Tensor,
        before: Tensor,
        motion: Tensor,
        picture: Tensor,
        action: Tensor,
        move: Move,
        *,
        noise: Tensor | None,
        steps: int,
        dither: Tensor | None = None,
    ) -> tuple[Tensor, Moved]:
        """The latent that follows `action`, and the moved picture that it starts from: context
        (B, S, D), latents (B, P, C), the last motion (B, 3, h, w), the last picture (B, 3, H, W),
        (B,), how to move it, noise (B, P, C), and how to round the flow, (B, 3).

        Without noise it is the mean of all that may follow, whatever the `steps`."""
        moved = self.head.move(context, latent, before, motion, picture, action, move, dither)

        def refine(noisy: Tensor, clock: Tensor) -> Tensor:
            return self.head(noisy, clock, moved, action)  # type: ignore[no-any-return]

        return draw(refine, moved, noise=noise, steps=steps), moved

    def initial_state(self, batch: int) -> TrunkState:
        """Memory of a world in which nothing has happened yet."""
        return self.trunk.initial_state(batch)


def draw(
    refine: Callable[[Tensor, Tensor], Tensor], moved: Moved, *, noise: Tensor | None, steps: int
) -> Tensor:
    """The next latent (B, P, C) out of `noise` (B, P, C) in `steps` flow steps, or the mean if it
    is None. `refine`: a latent on its way from noise, and a clock (B, 3), see `Head.forward`."""

    def at(x: Tensor, time: float, size: float) -> Tensor:
        return refine(x, x.new_tensor([time, size, 0.0]).expand(len(x), 3))

    if noise is None:
        return moved.compose(flow.sample(at, torch.zeros_like(moved.latent), 1), None)
    return moved.compose(flow.sample(at, noise, steps), noise)
