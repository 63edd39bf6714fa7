"""The sound of a world: its networks, what a player remembers of it, and one tick of it.

    draw a_{t+1} from (a_t, v_{t+1}, u_t, memory) -> samples of the tick

What is drawn is a function of each player's seed and tick, so that a replay sounds the same.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from worldsim.dynamics.sound import SoundDynamics, SoundDynamicsConfig
from worldsim.tokenizer.sound import CodecConfig, HeadState, SoundCodec

RATE = 22050  # Hz that a new world's sound is near to
HOP = 210  # samples that a new world's columns are near to
STREAM = 0x50D  # sets the sound's noise apart from the picture's


@dataclass(frozen=True, kw_only=True)
class SoundConfig:
    """Shape of a world's sound."""

    codec: CodecConfig
    dynamics: SoundDynamicsConfig


def new_sound(
    fps: float, tokens: int, channels: int, num_actions: int, axes: tuple[float, ...] = ()
) -> SoundConfig:
    """For a world of that rate, latents and actions: a whole number of columns per tick, and of
    samples per column, as near to RATE as that allows."""
    columns = max(1, round(RATE / fps / HOP))
    samples = columns * max(1, round(RATE / fps / columns))
    codec = CodecConfig(samples=samples, columns=columns, sample_rate=round(samples * fps))
    dynamics = SoundDynamicsConfig(
        tokens=tokens,
        channels=channels,
        num_actions=num_actions,
        axes=axes,
        groups=codec.groups,
        digits=codec.digits,
        levels=codec.levels,
    )
    return SoundConfig(codec=codec, dynamics=dynamics)


@dataclass(frozen=True, kw_only=True)
class SoundState:
    """What B players remember of what they heard."""

    audio: Tensor  # (B, D), a_t
    audio_memory: Tensor  # (B, W), of the dynamics
    audio_head: Tensor  # (B, W), of the waveform head
    audio_tail: Tensor  # (B, hop), samples that the next tick begins with

    def tensors(self) -> dict[str, Tensor]:
        """By name, as in a world's state."""
        return dict(vars(self))


class Sound(nn.Module):
    """The networks, under the names that they have in model.safetensors."""

    def __init__(self, config: SoundConfig) -> None:
        super().__init__()
        self.codec = SoundCodec(config.codec)
        self.dynamics = SoundDynamics(config.dynamics)

    def initial_state(self, batch: int) -> SoundState:
        """Silence."""
        head = self.codec.initial_state(batch)
        silence = head.tail.new_full((batch, self.codec.config.features), -1.0)
        return SoundState(
            audio=silence,
            audio_memory=self.dynamics.initial_state(batch),
            audio_head=head.memory,
            audio_tail=head.tail,
        )

    def look(self, latents: Tensor, actions: Tensor) -> SoundState:
        """The state after a context of latents (B, T, P, C) that nobody heard the sound of, each
        led to by one of `actions` (B, T): what is likeliest to have been heard."""
        state = self.initial_state(len(latents))
        for latent, action in zip(latents.unbind(1), actions.unbind(1), strict=True):
            audio, memory = self.dynamics.step(
                state.audio, latent, action, state.audio_memory, None
            )
            state = replace(state, audio=audio, audio_memory=memory)
        return state

    def step(
        self, state: SoundState, latent: Tensor, action: Tensor, luck: Tensor, noise: Tensor
    ) -> tuple[Tensor, SoundState]:
        """The sound (B, N) in -1..1 of the tick in which `action` (B,) led to `latent` (B, P, C),
        and the state after it. `luck` and `noise` are of `chance`."""
        gumbel = -(-luck.clamp(1e-9, 1 - 1e-7).log()).log()
        audio, memory = self.dynamics.step(state.audio, latent, action, state.audio_memory, gumbel)
        sound, head = self.codec(
            audio[:, None], HeadState(state.audio_head, state.audio_tail), noise
        )
        after = SoundState(
            audio=audio, audio_memory=memory, audio_head=head.memory, audio_tail=head.tail
        )
        return sound[:, 0].clamp(-1, 1), after

    def repeat(self, sound: Tensor) -> Tensor:
        """Samples (T, N) as the codec says them again."""
        features = self.codec.encode(self.codec.hear(sound[None]))
        _, noise = self.chance([0], [0])
        noise = noise.new_empty(1, len(sound), *noise.shape[2:]).normal_(
            generator=torch.Generator().manual_seed(STREAM)
        )
        said, _ = self.codec(features, self.codec.initial_state(1), noise.to(sound))
        samples: Tensor = said[0].clamp(-1, 1)
        return samples

    def chance(self, seeds: list[int], ticks: list[int]) -> tuple[Tensor, Tensor]:
        """What a tick is drawn with, by the player's seed and the tick: numbers (B, G, V) in 0..1,
        and normal noise (B, 1, K, bins, 2), on the CPU."""
        c = self.codec.config
        luck = torch.empty(len(seeds), c.groups, c.codes)
        noise = torch.empty(len(seeds), 1, c.columns, c.bins, 2)
        for row, (seed, tick) in enumerate(zip(seeds, ticks, strict=True)):
            number = ((seed * 1_000_003 + tick) * 4093 + STREAM) % 2**63
            generator = torch.Generator().manual_seed(number)
            luck[row].uniform_(generator=generator)
            noise[row].normal_(generator=generator)
        return luck, noise
