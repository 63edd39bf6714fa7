"""Everything that a live world remembers, as a value.

A state is never changed in place: `World.step` returns a new one, so that rewinding is keeping an
old one and forking is using one twice. Every tensor has the batch of players as its leading
dimension, which makes a batch of worlds a stack of states.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch
from torch import Tensor

from worldsim.dynamics import TrunkState
from worldsim.dynamics.kept import Kept, nothing_kept
from worldsim.sound import SoundState

Part = TypeVar("Part", SoundState, Kept)


@dataclass(frozen=True, kw_only=True)
class WorldState:
    """The state of B players. Shapes: L layers of the trunk, S places, H heads, E features of a
    head, N state size, P tokens, C channels, D width, h w cells."""

    memory: Tensor  # (B, L, S, H, E, N), the trunk's Mamba states
    latent: Tensor  # (B, P, C), what is shown now
    before: Tensor  # (B, P, C), what was shown a tick earlier
    motion: Tensor  # (B, 3, h, w), how what is shown came from what was shown before (`match`)
    context: Tensor  # (B, S, D), what the trunk made of everything so far
    picture: Tensor  # (B, 3, H, W) in [-1, 1], what is shown now, in floats
    tick: Tensor  # int64 (B,), ticks since the world began
    seed: Tensor  # int64 (B,); with the tick it determines the noise of the next frame
    # of a world with sound (worldsim/sound.py):
    audio: Tensor | None = None  # (B, D), what is heard now
    audio_memory: Tensor | None = None  # (B, W)
    audio_head: Tensor | None = None  # (B, W)
    audio_tail: Tensor | None = None  # (B, hop), samples that the next tick begins with
    slots: Tensor | None = None  # (B, K, D), the objects, if the world has any
    # of a world with keyframes (worldsim/dynamics/kept.py):
    kept: Tensor | None = None  # int8 (B, M, P, C), some of what was shown
    kept_pose: Tensor | None = None  # (B, M, 4), where it was seen from
    kept_tick: Tensor | None = None  # int64 (B, M), and when
    pose: Tensor | None = None  # (B, 4), where the player is
    ringing: Tensor | None = None  # int64 (B,), of a world that re-anchors (worldsim/anchor.py)

    @property
    def batch(self) -> int:
        """B, the number of players."""
        return len(self.tick)

    @property
    def trunk(self) -> TrunkState:
        """The part that the trunk carries on."""
        return TrunkState(memory=tuple(self.memory.unbind(dim=1)), latent=self.latent)

    @property
    def sound(self) -> SoundState | None:
        """What was heard so far, None in a world without sound."""
        return self._part(SoundState)

    @property
    def seen(self) -> Kept | None:
        """What the players have seen, None in a world without keyframes."""
        return self._part(Kept)

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name; `WorldState(**tensors)` is the inverse. What this world has no
        part for is None, and left out."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    def select(self, index: int) -> "WorldState":
        """One player of the batch, as a batch of one."""
        return self._map(lambda x: x[index : index + 1])

    def repeat(self, batch: int) -> "WorldState":
        """The same moment for `batch` players, from a batch of one."""
        return self._map(lambda x: x.expand(batch, *x.shape[1:]))

    def room(self, batch: int) -> "WorldState":
        """A state of `batch` players with nothing in it yet, in memory of its own."""
        return self._map(lambda x: x.new_empty(batch, *x.shape[1:]))

    def without_memory(self) -> "WorldState":
        """The same moment with the trunk's memory of the past wiped."""
        return replace(self, memory=torch.zeros_like(self.memory))

    def without_keyframes(self) -> "WorldState":
        """The same moment with all forgotten that was kept of what was shown."""
        return replace(self, **nothing_kept(self.latent).tensors()) if self.seen else self

    def without_slots(self) -> "WorldState":
        """The same moment with no objects known in it."""
        return self if self.slots is None else replace(self, slots=torch.zeros_like(self.slots))

    @staticmethod
    def stack(states: Sequence["WorldState"]) -> "WorldState":
        """The players of several states side by side in one batch; ValueError for states of
        which some have parts that others lack."""
        parts = [state.tensors() for state in states]
        if any(part.keys() != parts[0].keys() for part in parts):
            some = set.union(*(set(part) ^ set(parts[0]) for part in parts))
            raise ValueError(f"states of one batch must all have or lack {', '.join(sorted(some))}")
        return WorldState(**{k: torch.cat([part[k] for part in parts]) for k in parts[0]})

    def _part(self, kind: type[Part]) -> Part | None:
        named = {f.name: getattr(self, f.name) for f in fields(kind)}
        return None if any(x is None for x in named.values()) else kind(**named)

    def _map(self, change: Callable[[Tensor], Tensor]) -> "WorldState":
        return WorldState(**{k: change(v) for k, v in self.tensors().items()})
