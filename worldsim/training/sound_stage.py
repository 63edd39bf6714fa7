"""Training of the sound on streams of sound, latents and actions: codec and dynamics side by side.

The codec learns to say again what it hears, judged by spectra at three resolutions (Yamamoto et al.
2020): where in its cycle a hiss is, nobody hears. Its encoder stops early, so that the dynamics,
which learns to name the codes that come next, has a target that stands still. Some lanes run free:
the dynamics hears its own draws, and the truth is still the target. Latents carry noise as those
of an imagined picture do, and some pictures are wrong altogether: held still, or of another lane.
An imagined gun does not always flash when it fires, and it must be heard all the same.

Shapes: L lanes, T ticks, N samples of a tick, P tokens, C channels, D features.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from worldsim.data.sound import FULL, is_silent, sound_of_frames
from worldsim.folder import WorldConfig
from worldsim.sound import Sound, SoundState
from worldsim.training.device import device_of, fetch
from worldsim.training.footage import Footage
from worldsim.training.loop import matrix_optimizers, take_step
from worldsim.training.say import say
from worldsim.training.streams import Streams

Sounds = list[NDArray[np.int16] | None]  # (T, N) per episode, None where a video has none

ENCODER_UNTIL = 0.3  # of the way
RESOLUTIONS = (256, 512, 1024)  # samples of a spectrum
QUIET = 1e-2  # of a spectrum's magnitude: what is below it is not compared
LATENT_NOISE = 0.4  # at most, against tokens of unit root mean square
HELD, FOREIGN = 0.35, 0.25  # shares of the lanes whose latents stand still, or are another lane's
WRONG_CODES = 0.1  # share of the codes heard that are any code
FORGET_ACTIONS = 0.1  # share of lanes whose actions are hidden
FREE_SHARE, FREE_FROM = 0.25, 0.35  # of the lanes, and of the way
MATRICES = ("memory.weight", "hidden.", "encoder.", "split.", "look.")


def read_sound(footage: Footage, config: WorldConfig, cache: Path) -> Sounds | None:
    """The sound of all footage as a world of `config` has it; None if there is none to be heard."""
    assert config.sound is not None, "callers ask for worlds with sound"
    samples = config.sound.codec.samples
    sounds: Sounds = []
    for path, name, frames in zip(footage.paths, footage.names, footage.frames, strict=True):
        kept = cache / f"{name}.sound-{samples}.npy"
        sound = sound_of_frames(path, kept, len(frames), footage.fps, samples)
        sounds.append(None if sound is None or is_silent(sound) else sound)
    heard = [sound for sound in sounds if sound is not None]
    if not heard:
        say("sound: none in this footage")
        return None
    minutes = sum(len(sound) for sound in heard) / footage.fps / 60
    say(f"sound: in {len(heard)} of {len(sounds)} videos, {minutes:.1f} min")
    return sounds


def with_silence(sounds: Sounds, footage: Footage, samples: int) -> list[NDArray[np.int16]]:
    """The sound (T, N) of every episode, N `samples` of silence a tick where it has none."""
    nothing = np.zeros((), dtype=np.int16)
    return [
        np.broadcast_to(nothing, (len(frames), samples)) if sound is None else sound
        for sound, frames in zip(sounds, footage.frames, strict=True)
    ]


class SoundStage:
    name = "sound"

    def __init__(
        self, sound: Sound, streams: Streams, *, keep_codes: bool = False, rate: float = 2e-3
    ) -> None:
        """`streams` yields sound int16, latents and actions. `keep_codes`: the encoder is not
        trained, and lanes run free from the start."""
        self._encoder_until = 0.0 if keep_codes else ENCODER_UNTIL
        self._free_from = 0.0 if keep_codes else FREE_FROM
        self.model = self._sound = sound
        self.optimizers = matrix_optimizers(sound, rate, inside=MATRICES)
        self.streams = streams
        self._device = device_of(sound)
        self._state: SoundState | None = None

    def update(self, progress: float) -> dict[str, Tensor]:
        chunk = self.streams.next()
        samples = fetch(chunk.arrays[0], self._device).float() / FULL
        latents = fetch(chunk.arrays[1], self._device).float()[:, 1:]
        actions = self._sound.dynamics.told(fetch(chunk.arrays[2], self._device))[:, 1:]
        codec = self._sound.codec
        with torch.set_grad_enabled(progress < self._encoder_until):
            ahead = codec.hear(samples[:, :1])
            heard = codec.hear(samples[:, 1:], samples[:, 0])
            features = codec.encode(heard, ahead[:, 0])
        jumped = fetch(chunk.jumped, self._device)
        state = self._begin(codec.encode(ahead)[:, 0].detach(), jumped)
        spoken, state = self._speak(features, state)
        losses = spectral_loss(spoken.flatten(1), samples[:, 1:].flatten(1))
        guessed, state = self._guess(features.detach(), latents, actions, state, progress)
        losses |= guessed
        losses["loss"] = losses["spectrum"] + losses["convergence"] + losses["codes"]
        self._state = SoundState(**{k: v.detach() for k, v in state.tensors().items()})
        take_step(self.optimizers, losses["loss"], self.model)
        with torch.no_grad():
            losses["mel"] = (codec.hear(spoken) - heard).abs().mean()
        return {k: v.detach() for k, v in losses.items()}

    def state_dict(self) -> dict[str, Tensor]:
        """What the lanes carry."""
        return {} if self._state is None else self._state.tensors()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state_dict`."""
        carried = {k: v.to(self._device) for k, v in state.items()}
        self._state = SoundState(**carried) if carried else None

    def _begin(self, features: Tensor, jumped: Tensor) -> SoundState:
        """What each lane remembers; one that `jumped` has just heard `features`, or nothing."""
        fresh = self._sound.initial_state(len(jumped))
        nothing = torch.rand(len(jumped), 1) < 0.5
        fresh = replace(fresh, audio=torch.where(nothing, fresh.audio, features))
        if self._state is None:
            return fresh
        old, new = self._state.tensors(), fresh.tensors()
        return SoundState(**{k: torch.where(jumped[:, None], new[k], old[k]) for k in new})

    def _speak(self, features: Tensor, state: SoundState) -> tuple[Tensor, SoundState]:
        """What the waveform head makes of the features, (L, T, N)."""
        c = self._sound.codec.config
        noise = torch.randn(*features.shape[:2], c.columns, c.bins, 2)
        head = replace(self._sound.codec.initial_state(0), memory=state.audio_head)
        head = replace(head, tail=state.audio_tail)
        spoken, head = self._sound.codec(features, head, noise)
        return spoken, replace(state, audio_head=head.memory, audio_tail=head.tail)

    def _guess(
        self,
        features: Tensor,
        latents: Tensor,
        actions: Tensor,
        state: SoundState,
        progress: float,
    ) -> tuple[dict[str, Tensor], SoundState]:
        """Cross entropy of the codes, in nats per tick, and how often the likeliest is right."""
        dynamics, codec = self._sound.dynamics, self._sound.codec
        lanes = len(features)
        actions = actions.clone()
        actions[torch.rand(lanes) < FORGET_ACTIONS] = dynamics.unknown_action
        level = LATENT_NOISE * torch.rand(lanes, 1, 1, 1) * (torch.rand(lanes, 1, 1, 1) < 0.7)
        latents = self._misseen(latents) + level * torch.randn_like(latents)
        before = torch.cat([state.audio[:, None], features[:, :-1]], dim=1)
        before = self._misheard(before)
        free = torch.rand(lanes) < FREE_SHARE
        if progress >= self._free_from and free.any():
            before[free, 1:] = self._alone(
                before[free, 0], latents[free], actions[free], state.audio_memory[free]
            )[:, :-1]
        out, memory = dynamics(before, latents, actions, state.audio_memory)
        logits, codes = dynamics.logits(out, features), codec.to_codes(features)
        entropy = F.cross_entropy(logits.flatten(0, 2), codes.flatten())
        right = (logits.argmax(dim=-1) == codes).float().mean()
        last = torch.where(free[:, None], before[:, -1], features[:, -1])
        after = replace(state, audio=last, audio_memory=memory)
        return {"codes": entropy, "right": right}, after

    @staticmethod
    def _misseen(latents: Tensor) -> Tensor:
        """Some lanes see nothing move, some see what another lane does."""
        dice = torch.rand(len(latents), 1, 1, 1)
        held = torch.where(dice < HELD, latents[:, :1], latents)
        return torch.where(dice > 1 - FOREIGN, latents.roll(1, dims=0), held)

    def _misheard(self, features: Tensor) -> Tensor:
        """Some codes become any code."""
        c = self._sound.codec.config
        digits = torch.randint(c.levels, (*features.shape[:2], c.groups, c.digits))
        wrong = torch.rand(*features.shape[:2], c.groups, 1) < WRONG_CODES
        grouped = features.unflatten(-1, (c.groups, c.digits))
        return torch.where(wrong, 2 * digits / (c.levels - 1) - 1, grouped).flatten(-2)

    @torch.no_grad()
    def _alone(self, features: Tensor, latents: Tensor, actions: Tensor, memory: Tensor) -> Tensor:
        """What the dynamics draws, hearing only itself: (L, T, D)."""
        c = self._sound.codec.config
        drawn = []
        for latent, action in zip(latents.unbind(1), actions.unbind(1), strict=True):
            even = torch.rand(len(features), c.groups, c.codes).clamp(1e-9, 1 - 1e-7)
            luck = -(-even.log()).log()
            features, memory = self._sound.dynamics.step(features, latent, action, memory, luck)
            drawn.append(features)
        return torch.stack(drawn, dim=1)


def spectral_loss(spoken: Tensor, real: Tensor) -> dict[str, Tensor]:
    """Of samples (L, S): log magnitudes, and magnitudes against the loudness of all."""
    spectrum, convergence = [], []
    for size in RESOLUTIONS:
        ours, theirs = magnitudes(spoken, size), magnitudes(real, size)
        spectrum.append(((ours + QUIET).log() - (theirs + QUIET).log()).abs().mean())
        convergence.append((ours - theirs).norm() / theirs.norm().clamp(min=1.0))
    return {
        "spectrum": torch.stack(spectrum).mean(),
        "convergence": torch.stack(convergence).mean(),
    }


def magnitudes(sound: Tensor, size: int) -> Tensor:
    """(L, S) -> magnitudes of spectra of `size` samples, a quarter apart."""
    window = torch.hann_window(size, device=sound.device)
    padded = F.pad(sound, (size // 2, size // 2))
    return torch.stft(
        padded, size, size // 4, window=window, center=False, return_complex=True
    ).abs()
