"""The parts of a tick, as plain functions of tensors, and who computes them.

    carry     slots, latent, action, context  -> where the slots go, and the context with them in it
    move      context, latent, before, motion, picture, action
              -> moved picture, latent, features, news, flow
    refine    noisy, clock, features, latent, action   -> the next latent, once per flow step
    paint     latent, moved latent, moved picture      -> the next picture, and its bytes
    hear      what was heard, latent, action, chance   -> samples, what is heard
    doubt     latent before, latent                    -> how little the one follows from the other

    remember  latent, before, action, memory           -> context, memory
    match     picture before, picture                  -> motion
    correct   slots, latent                            -> slots, found again in the new frame

Those above the gap stand between a key and its frame, the others run after it. A world has those
that it has networks for. Each is a module here, which is the specification; a backend may compute
some of them, for the shapes that it has prepared. Whatever it does not cover, torch computes: a
part with inputs that no backend knows yet, a batch of a size that was not prepared, and everything
from the moment at which a backend fails.

Shapes: B batch, P tokens, C channels, S places, D width, L layers, H heads, E features of a head, N
state size, K slots, picture (B, 3, height, width).
"""

from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from worldsim.dynamics import Head, Moved, Trunk, TrunkState
from worldsim.dynamics.matching import match
from worldsim.dynamics.objects import Objects, SlotReader
from worldsim.model import WorldModel
from worldsim.sound import Sound, SoundState
from worldsim.tokenizer import Decoder, Tokenizer, to_frames
from worldsim.tokenizer.student import Student

Tensors = tuple[Tensor, ...]
# in which rounding to bfloat16 shows in one frame alone: the others remember, or decide
FLEETING = ("move", "refine", "paint")


class Carry(nn.Module):
    def __init__(self, objects: Objects, reader: SlotReader) -> None:
        super().__init__()
        self.objects, self.reader = objects, reader

    def forward(self, slots: Tensor, latent: Tensor, action: Tensor, context: Tensor) -> Tensors:
        """(B, K, ..), (B, P, C), (B,), (B, S, D) -> (B, K, ..), (B, S, D)."""
        carried = self.objects.carry(slots, latent, action)
        return carried, context + self.reader(carried)


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


class Hear(nn.Module):
    def __init__(self, sound: Sound) -> None:
        super().__init__()
        self.sound = sound

    def forward(
        self,
        audio: Tensor,
        memory: Tensor,
        head: Tensor,
        tail: Tensor,
        latent: Tensor,
        action: Tensor,
        luck: Tensor,
        noise: Tensor,
    ) -> Tensors:
        """The fields of `SoundState`, (B, P, C), (B,), and what `Sound.chance` gives -> samples
        (B, N), and the fields again."""
        state = SoundState(audio=audio, audio_memory=memory, audio_head=head, audio_tail=tail)
        samples, after = self.sound.step(state, latent, action, luck, noise)
        return samples, *after.tensors().values()


class Doubt(nn.Module):
    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = student

    def forward(self, before: Tensor, latent: Tensor) -> Tensors:
        """(B, P, C) twice -> (B,)."""
        return (self.student.score(before, latent),)


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


class Match(nn.Module):
    def __init__(self, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, before: Tensor, picture: Tensor) -> Tensors:
        """Pictures -> (B, 3, h, w)."""
        return (match(before, picture, self.grid),)


class Correct(nn.Module):
    def __init__(self, objects: Objects) -> None:
        super().__init__()
        self.objects = objects

    def forward(self, slots: Tensor, latent: Tensor) -> Tensors:
        """(B, K, ..), (B, P, C) -> (B, K, ..)."""
        return (self.objects.correct(slots, latent),)


def modules_of(model: WorldModel) -> dict[str, nn.Module]:
    """The parts that this world has."""
    head, tokenizer = model.dynamics.head, model.tokenizer
    found: dict[str, nn.Module] = {
        "move": Move(head, tokenizer),
        "refine": Refine(head),
        "paint": Paint(tokenizer.decoder),
        "remember": Remember(model.dynamics.trunk),
        "match": Match(tokenizer.config.grid),
    }
    if model.objects is not None and model.dynamics.reader is not None:
        found["carry"] = Carry(model.objects, model.dynamics.reader)
        found["correct"] = Correct(model.objects)
    if model.sound is not None:
        found["hear"] = Hear(model.sound)
    if model.features is not None:
        found["doubt"] = Doubt(model.features)
    return {name: module.eval() for name, module in found.items()}


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
        model: WorldModel,
        runner: Runner | None = None,
        say: Callable[[str], None] = lambda message: None,
    ) -> None:
        """`say` gets one line if the backend fails."""
        self.model, self.modules = model, modules_of(model)
        self._runner = runner
        self._say = say

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.model.device

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

    @torch.inference_mode()
    def example(self, batch: int) -> dict[str, Tensors]:
        """Inputs of every part on the CPU, always the same ones, sized like the world's own."""
        d, t = self.model.dynamics.config, self.model.tokenizer.config
        generator = torch.Generator().manual_seed(0)

        def noise(*shape: int) -> Tensor:
            return torch.randn(batch, *shape, generator=generator)

        def latent() -> Tensor:
            return nn.functional.rms_norm(noise(d.num_tokens, d.channels), (d.channels,))

        action = torch.randint(d.num_actions, (batch,), generator=generator)
        coarse = noise(3, t.height // 8, t.width // 8).clamp(-1, 1)
        picture = nn.functional.interpolate(coarse, (t.height, t.width), mode="bilinear")
        rolled = picture.roll(2, dims=-1)
        motion = match(picture, rolled, (d.rows, d.columns))
        places = (d.num_places, d.width)
        memory = (d.trunk_layers, d.num_places, d.heads, d.width // d.heads, d.state_size)
        clock = torch.tensor([0.5, 0.5, 0.0]).repeat(batch, 1)
        found: dict[str, Tensors] = {
            "move": (noise(*places), latent(), latent(), motion, picture, action),
            "refine": (noise(d.num_tokens, d.channels), clock, noise(*places), latent(), action),
            "paint": (latent(), latent(), picture),
            "remember": (latent(), latent(), action, noise(*memory)),
            "match": (picture, rolled),
        }
        if self.model.objects is not None:
            o = self.model.objects.config
            boxes = torch.rand(batch, o.slots, 4, generator=generator) * 0.5 + 0.2
            there = torch.arange(o.slots).expand(batch, -1)[..., None] < o.slots // 2
            rest = torch.cat([noise(o.slots, o.attributes), 0 * noise(o.slots, 2)], dim=-1)
            slots = torch.cat([boxes, there, rest, noise(o.slots, o.hidden).tanh()], dim=-1) * there
            found["carry"] = (slots, latent(), action, noise(*places))
            found["correct"] = (slots, latent())
        if self.model.sound is not None:
            first = self.model.sound.initial_state(batch).tensors()
            heard = tuple(x.cpu() + 0.1 * noise(*x.shape[1:]) for x in first.values())
            luck, hiss = self.model.sound.chance(list(range(batch)), [0] * batch)
            found["hear"] = (*heard, latent(), action, luck, hiss)
        if self.model.features is not None:
            found["doubt"] = (latent(), latent())
        return found

    def _give_up(self, error: Exception) -> None:
        what = str(error).strip().splitlines() or [""]
        self._say(f"backend {self.backend} failed, torch goes on: {type(error).__name__} {what[0]}")
        self._runner = None
