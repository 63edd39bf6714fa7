"""Trunk and head together: the next latent, and the memory after it.

Shapes: B batch, T ticks, P tokens, C channels, S places, D width.
"""

import torch
from torch import Tensor, nn

from worldsim.dynamics import flow
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
    def unknown_action(self) -> int:
        """The action of a tick that nobody recorded."""
        return self.config.num_actions

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
        action: Tensor,
        move: Move,
        *,
        noise: Tensor | None,
        steps: int,
    ) -> tuple[Tensor, Moved]:
        """The latent that follows `action`, and the moved picture that it starts from: context
        (B, S, D), latents (B, P, C), (B,), how to move the last picture, noise (B, P, C).

        Without noise it is the mean of all that may follow, everywhere, whatever the `steps`."""
        moved = self.head.move(context, latent, before, action, move)

        def at(x: Tensor, time: float, size: float) -> Tensor:
            clock = x.new_tensor([time, size, 0.0]).expand(len(x), 3)
            return self.head(x, clock, moved, action)  # type: ignore[no-any-return]

        if noise is None:
            return flow.sample(at, torch.zeros_like(latent), 1), moved
        return moved.compose(flow.sample(at, noise, steps), noise), moved

    def initial_state(self, batch: int) -> TrunkState:
        """Memory of a world in which nothing has happened yet."""
        return self.trunk.initial_state(batch)
