"""The four parts of a tick, as plain functions of tensors, and who computes them.

    move      context, latent, before, motion, picture, action
              -> moved picture, latent, features, news, flow
    refine    noisy, clock, features, latent, action   -> the next latent, once per flow step
    paint     latent, moved latent, moved picture      -> the next picture, and its bytes
    remember  latent, before, action, memory           -> context, memory

The first three stand between a key and its frame, the last runs after it. Each is a module here,
which is the specification; a backend may compute some of them, for the shapes that it has prepared.
Whatever it does not cover, torch computes: a part with inputs that no backend knows yet, a batch of
a size that was not prepared, and everything from the moment at which a backend fails.

Shapes: B batch, P tokens, C channels, S places, D width, L layers, H heads, E features of a head, N
state size, picture (B, 3, height, width).
"""

from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from worldsim.dynamics import Dynamics, Head, Moved, Trunk, TrunkState
from worldsim.dynamics.matching import match
from worldsim.tokenizer import Decoder, Tokenizer, to_frames

Tensors = tuple[Tensor, ...]
NAMES = ("move", "refine", "paint", "remember")


class Move(nn.Module):
    def __init__(self, head: Head, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.head, self.tokenizer = head, tokenizer

    def forward(
        self,
        context: Tensor,
        latent: Tensor,
        before: Tensor,
        motion: Tensor,
        picture: Tensor,
        action: Tensor,
    ) -> Tensors:
        """(B, S, D), (B, P, C) twice, (B, 3, h, w), picture, (B,) -> the fields of `Moved`."""
        move = partial(self.tokenizer.move, picture)
        moved = self.head.move(context, latent, before, motion, action, move)
        return moved.picture, moved.latent, moved.features, moved.news, moved.flow


class Refine(nn.Module):
    def __init__(self, head: Head) -> None:
        super().__init__()
        self.head = head

    def forward(
        self, noisy: Tensor, clock: Tensor, features: Tensor, latent: Tensor, action: Tensor
    ) -> Tensors:
        """(B, P, C), (B, 3), (B, S, D), (B, P, C), (B,) -> (B, P, C)."""
        moved = Moved(picture=latent, latent=latent, features=features, news=latent, flow=latent)
        return (self.head(noisy, clock, moved, action),)


class Paint(nn.Module):
    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, latent: Tensor, code: Tensor, picture: Tensor) -> Tensors:
        """(B, P, C) twice, picture -> picture in [-1, 1], uint8 (B, height, width, 3)."""
        painted = self.decoder(latent, code, picture).clamp(-1, 1)
        return painted, to_frames(painted)


class Remember(nn.Module):
    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, latent: Tensor, before: Tensor, action: Tensor, memory: Tensor) -> Tensors:
        """(B, P, C) twice, (B,), (B, L, S, H, E, N) -> (B, S, D), (B, L, S, H, E, N)."""
        level = latent.new_zeros(latent.shape[0])
        state = TrunkState(memory=tuple(memory.unbind(dim=1)), latent=before)
        context, after = self.trunk.step(latent, action, level, state)
        return context, torch.stack(after.memory, dim=1)


class Runner(Protocol):
    """A backend: computes parts of a tick of one world."""

    name: str

    def prepare(self, batch: int) -> None:
        """Get ready for batches of this size: whatever takes long happens here, never in `run`."""
        ...

    def run(self, part: str, inputs: Tensors) -> Tensors | None:
        """The part's outputs in tensors of their own, None if it does not cover these inputs."""
        ...


class Parts:
    """The parts of one world's tick, computed by a backend as far as it goes, else by torch."""

    def __init__(
        self,
        dynamics: Dynamics,
        tokenizer: Tokenizer,
        runner: Runner | None = None,
        say: Callable[[str], None] = lambda message: None,
    ) -> None:
        """`say` gets one line if the backend fails."""
        self._dynamics, self._tokenizer = dynamics, tokenizer
        self.modules = {
            "move": Move(dynamics.head, tokenizer),
            "refine": Refine(dynamics.head),
            "paint": Paint(tokenizer.decoder),
            "remember": Remember(dynamics.trunk),
        }
        for module in self.modules.values():
            module.eval()
        self._runner = runner
        self._say = say

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self._dynamics.parameters()).device

    @property
    def backend(self) -> str:
        """The name of what runs."""
        return "torch" if self._runner is None else self._runner.name

    def prepare(self, batch: int) -> None:
        """Get the backend ready for batches of this size; may take seconds."""
        if self._runner is not None:
            try:
                self._runner.prepare(batch)
            except Exception as error:  # whatever a compiler or a driver raises, torch goes on
                self._give_up(error)

    def run(self, part: str, *inputs: Tensor) -> Tensors:
        """The outputs of a part."""
        if self._runner is not None:
            try:
                found = self._runner.run(part, inputs)
            except Exception as error:
                self._give_up(error)
            else:
                if found is not None:
                    return found
        outputs: Tensors = self.modules[part](*inputs)
        return outputs

    def example(self, batch: int) -> dict[str, Tensors]:
        """Inputs of every part on the CPU, always the same ones, sized like the world's own."""
        d, t = self._dynamics.config, self._tokenizer.config
        generator = torch.Generator().manual_seed(0)

        def noise(*shape: int) -> Tensor:
            return torch.randn(batch, *shape, generator=generator)

        def latent() -> Tensor:
            return nn.functional.rms_norm(noise(d.num_tokens, d.channels), (d.channels,))

        if d.axes:
            action = torch.tensor(d.axes) * (2 * torch.rand(batch, 1, generator=generator) - 1)
        else:
            action = torch.randint(d.num_actions, (batch,), generator=generator)
        coarse = noise(3, t.height // 8, t.width // 8).clamp(-1, 1)
        picture = nn.functional.interpolate(coarse, (t.height, t.width), mode="bilinear")
        motion = match(picture, picture.roll(2, dims=-1), (d.rows, d.columns))
        places = (d.num_places, d.width)
        memory = (d.trunk_layers, d.num_places, d.heads, d.width // d.heads, d.state_size)
        clock = torch.tensor([0.5, 0.5, 0.0]).repeat(batch, 1)
        return {
            "move": (noise(*places), latent(), latent(), motion, picture, action),
            "refine": (noise(d.num_tokens, d.channels), clock, noise(*places), latent(), action),
            "paint": (latent(), latent(), picture),
            "remember": (latent(), latent(), action, noise(*memory)),
        }

    def _give_up(self, error: Exception) -> None:
        what = str(error).strip().splitlines() or [""]
        self._say(f"backend {self.backend} failed, torch goes on: {type(error).__name__} {what[0]}")
        self._runner = None
