"""The parts of a tick, as plain functions of tensors, and who computes them.

    move      context, latent, before, motion, picture, action, noise, clock, dither, slots
              -> moved picture, latent, features, news, flow; the noise after the first flow step;
              where the slots go
    refine    noisy, clock, features, latent, action   -> the noisy latent, a flow step later
    recall    latent, which tokens to take   -> the latent, with what a keyframe shows there
    paint     latent, moved latent, moved picture, latent before
              -> the next picture, its bytes, and how little it follows from the one before
    hear      what was heard, latent, action, chance   -> samples, what is heard

    remember  latent, before, action, memory, picture before, picture, slots
              -> context, memory, motion, slots found again

Those above the gap stand between a key and its frame, the last one runs after it. What a world has
no networks for is left out: slots, the score of a frame, `recall`, `hear`. The parts are large, as
every call costs. Each is a module here, which is the specification; a backend may compute some of
them, for the shapes that it has prepared. Whatever it does not cover, torch computes: a part with
inputs that no backend knows yet, a batch of a size that was not prepared, and everything from the
moment at which a backend fails.

Shapes: B batch, P tokens, C channels, S places, D width, L layers, H heads, E features of a head, N
state size, K slots, picture (B, 3, height, width).
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from worldsim.backends.examples import Tensors as Tensors
from worldsim.backends.examples import example_inputs
from worldsim.dynamics import Head, Moved, Trunk, TrunkState
from worldsim.dynamics.flow import advance
from worldsim.dynamics.keyframes import Keyframes
from worldsim.dynamics.matching import match
from worldsim.model import WorldModel
from worldsim.sound import Sound, SoundState
from worldsim.tokenizer import Decoder, to_frames
from worldsim.tokenizer.student import Student

# in which rounding to bfloat16 shows in one frame alone; in the others errors stay
FLEETING = ("move", "refine", "paint")


class Move(nn.Module):
    def __init__(self, model: WorldModel) -> None:
        super().__init__()
        self.head, self.tokenizer = model.dynamics.head, model.tokenizer
        self.objects, self.reader = model.objects, model.dynamics.reader

    def forward(
        self,
        context: Tensor,
        latent: Tensor,
        before: Tensor,
        motion: Tensor,
        picture: Tensor,
        action: Tensor,
        noise: Tensor,
        clock: Tensor,
        dither: Tensor,
        slots: Tensor | None = None,
    ) -> Tensors:
        """(B, S, D), (B, P, C) twice, (B, 3, h, w), picture, (B,), (B, P, C), (B, 3) twice,
        (B, K, ..) -> the fields of `Moved`, (B, P, C), (B, K, ..)."""
        carried = []
        if slots is not None and self.objects is not None and self.reader is not None:
            carried.append(self.objects.carry(slots, latent, action))
            context = context + self.reader(carried[0])
        seen = (context, latent, before, motion, picture, action)
        moved = self.head.move(*seen, self.tokenizer.move, dither)
        after = _flow_step(self.head, noise, clock, moved, action)
        fields = (moved.picture, moved.latent, moved.features, moved.news, moved.flow)
        return *fields, after, *carried


class Refine(nn.Module):
    def __init__(self, head: Head) -> None:
        super().__init__()
        self.head = head

    def forward(
        self, noisy: Tensor, clock: Tensor, features: Tensor, latent: Tensor, action: Tensor
    ) -> Tensors:
        """(B, P, C), (B, 3), (B, S, D), (B, P, C), (B,) -> (B, P, C)."""
        moved = Moved(picture=latent, latent=latent, features=features, news=latent, flow=latent)
        return (_flow_step(self.head, noisy, clock, moved, action),)


def _flow_step(head: Head, noisy: Tensor, clock: Tensor, moved: Moved, action: Tensor) -> Tensor:
    time, size = clock[:, :2, None, None].unbind(dim=1)
    return advance(noisy, head(noisy, clock, moved, action), time, size)


class Recall(nn.Module):
    def __init__(self, keyframes: Keyframes) -> None:
        super().__init__()
        self.keyframes = keyframes

    def forward(self, latent: Tensor, taken: Tensor) -> Tensors:
        """(B, P, C), bool (B, P) -> (B, P, C)."""
        return (self.keyframes(latent, taken),)


class Paint(nn.Module):
    def __init__(self, decoder: Decoder, student: Student | None) -> None:
        super().__init__()
        self.decoder, self.student = decoder, student

    def forward(self, latent: Tensor, code: Tensor, picture: Tensor, before: Tensor) -> Tensors:
        """(B, P, C) twice, picture, (B, P, C) -> picture in [-1, 1], uint8 (B, height, width, 3),
        and, where there is a student, its score (B,)."""
        painted = self.decoder(latent, code, picture).clamp(-1, 1)
        if self.student is None:
            return painted, to_frames(painted)
        return painted, to_frames(painted), self.student.score(before, latent)


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


class Remember(nn.Module):
    def __init__(self, model: WorldModel, trunk: Trunk | None = None) -> None:
        """`trunk`: one with the model's weights, if it is not to be the model's own."""
        super().__init__()
        self.trunk = model.dynamics.trunk if trunk is None else trunk
        self.objects, self.grid = model.objects, model.tokenizer.config.grid

    def forward(
        self,
        latent: Tensor,
        before: Tensor,
        action: Tensor,
        memory: Tensor,
        last: Tensor,
        picture: Tensor,
        slots: Tensor | None = None,
    ) -> Tensors:
        """(B, P, C) twice, (B,), (B, L, S, H, E, N), pictures, (B, K, ..) -> (B, S, D),
        (B, L, S, H, E, N), (B, 3, h, w), (B, K, ..)."""
        level = torch.zeros_like(latent[:, 0, 0])
        state = TrunkState(memory=tuple(memory.unbind(dim=1)), latent=before)
        context, after = self.trunk.step(latent, action, level, state)
        outputs = (context, torch.stack(after.memory, dim=1), match(last, picture, self.grid))
        if slots is None or self.objects is None:
            return outputs
        return *outputs, self.objects.correct(slots, latent)


def modules_of(model: WorldModel) -> dict[str, nn.Module]:
    """The parts that this world has."""
    found: dict[str, nn.Module] = {
        "move": Move(model),
        "refine": Refine(model.dynamics.head),
        "paint": Paint(model.tokenizer.decoder, model.features),
        "remember": Remember(model),
    }
    if model.keyframes is not None:
        found["recall"] = Recall(model.keyframes)
    if model.sound is not None:
        found["hear"] = Hear(model.sound)
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

    def example(self, batch: int) -> dict[str, Tensors]:
        """Inputs of every part on the CPU, always the same ones, sized like the world's own."""
        return example_inputs(self.model, batch)

    def _give_up(self, error: Exception) -> None:
        what = str(error).strip().splitlines() or [""]
        self._say(f"backend {self.backend} failed, torch goes on: {type(error).__name__} {what[0]}")
        self._runner = None
