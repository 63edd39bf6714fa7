"""What every lane of the dynamics' training remembers between chunks.

A lane is either led, its context real, or free, its context what the model itself imagined.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from worldsim.dynamics import TrunkState

FREE_SHARE = 0.4  # of the lanes, once there are free ones
FREE_STOP = 0.3  # chance per chunk that a free lane is put back on real frames


@dataclass
class Lanes:
    """Shapes: L lanes, P tokens, C channels, H W picture."""

    state: TrunkState  # of what the trunk has read
    latent: Tensor  # (L, P, C), where each lane stands: not read yet
    picture: Tensor  # (L, 3, H, W), what it shows there
    motion: Tensor  # (L, 3, h, w), how that came from what it showed before
    before: Tensor  # (L, 3, H, W), the real frame before the one that the next chunk begins with
    free: Tensor  # bool (L,)

    def lead(
        self, latent: Tensor, picture: Tensor, motion: Tensor, led: Tensor, *, may_free: bool
    ) -> None:
        """Put lanes back on the real frame that the chunk begins with, `latent` (L, P, C),
        `picture` and its `motion`: those `led` (L,), those not free, and some by chance; then
        choose anew which of them run free."""
        led = led | ~self.free | (torch.rand(len(led)) < FREE_STOP)
        self.latent = torch.where(led[:, None, None], latent, self.latent)
        self.picture = torch.where(led[:, None, None, None], picture, self.picture)
        self.motion = torch.where(led[:, None, None, None], motion, self.motion)
        start = (torch.rand(len(led)) < FREE_SHARE) & may_free
        start[0] = False  # some exercises are for real frames only
        self.free = torch.where(led, start, self.free)

    def restart(self, fresh: TrunkState, jumped: Tensor) -> None:
        """Lanes that `jumped` (L,) remember nothing; others carry their memory on."""
        memory = tuple(
            torch.where(jumped.view(-1, 1, 1, 1, 1), new, old)
            for new, old in zip(fresh.memory, self.state.memory, strict=True)
        )
        last = torch.where(jumped[:, None, None], fresh.latent, self.state.latent)
        self.state = TrunkState(memory=memory, latent=last)

    def keep(self, state: TrunkState) -> None:
        """Carry `state` into the next chunk, without its gradients."""
        self.state = TrunkState(tuple(m.detach() for m in state.memory), state.latent.detach())

    def free_rows(self) -> tuple[Tensor, TrunkState]:
        """Indices of the free lanes, and their part of the state."""
        rows = self.free.nonzero()[:, 0]
        memory = tuple(m[rows] for m in self.state.memory)
        return rows, TrunkState(memory, self.state.latent[rows])

    def state_dict(self) -> dict[str, Tensor]:
        """All tensors by name; `from_state_dict` is the inverse."""
        memory = {f"memory.{i}": m for i, m in enumerate(self.state.memory)}
        names = ("latent", "picture", "motion", "before", "free")
        last = {name: getattr(self, name) for name in names}
        return {**memory, "read": self.state.latent, **last}

    @classmethod
    def from_state_dict(cls, state: dict[str, Tensor]) -> Self:
        layers = sum(name.startswith("memory.") for name in state)
        memory = tuple(state[f"memory.{i}"] for i in range(layers))
        rest = {k: v for k, v in state.items() if k != "read" and not k.startswith("memory.")}
        return cls(state=TrunkState(memory, state["read"]), **rest)
