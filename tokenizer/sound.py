"""Waveform <-> sound features: one small vector per tick, and back to samples without clicks.

    log-mel of the tick and of the one before -> features a_t, D digits of L levels each
    a_t, memory -> per column: magnitude, phase and noise -> inverse FFT -> window -> overlap-add

Quantization: finite scalar (Mentzer et al. 2023), so that what comes next can be drawn from a
distribution over codes: a mean of what may be heard is mush. The head predicts spectra, as Vocos
(Siuzdak 2023), with noise of a predicted colour added (Engel et al. 2020, DDSP); it is causal and
adds no delay, because a column's window begins where the column does, and rises fast.

Shapes: B batch, T ticks, N samples of a tick, K columns of a tick, D digits, W width.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FLOOR = 1e-3  # of a mel band's magnitude: quieter is silence
RISE = 3  # the window rises within 1 / RISE of a hop


@dataclass(frozen=True, kw_only=True)
class CodecConfig:
    """Shape of the sound's tokenizer."""

    samples: int = 630  # N, of one tick
    columns: int = 3  # K, spectra per tick
    sample_rate: int = 22050  # Hz
    mels: int = 40  # bands that the encoder hears
    groups: int = 3  # of digits; the digits of a group are one code
    digits: int = 4  # per group
    levels: int = 4  # of a digit
    encoder_width: int = 128
    width: int = 128  # of the waveform head's memory
    column_width: int = 64
    bands: int = 16  # of the noise

    def __post_init__(self) -> None:
        if self.columns < 1 or self.samples % self.columns:
            raise ValueError(
                f"samples must be a multiple of columns, got {self.samples} and {self.columns}"
            )

    @property
    def hop(self) -> int:
        """Samples from one column to the next."""
        return self.samples // self.columns

    @property
    def bins(self) -> int:
        """Frequencies of a column, which is two hops long."""
        return self.hop + 1

    @property
    def features(self) -> int:
        """D, numbers of a_t."""
        return self.groups * self.digits

    @property
    def codes(self) -> int:
        """Values of one group."""
        return int(self.levels**self.digits)


@dataclass(frozen=True)
class HeadState:
    """What the waveform head carries from tick to tick."""

    memory: Tensor  # (B, W)
    tail: Tensor  # (B, hop), of the last column, to be added to the next samples


class SoundCodec(nn.Module):
    """`encode` hears, `decode` speaks."""

    mel: Tensor
    window: Tensor
    rise: Tensor
    smooth: Tensor

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = c = config
        heard = 2 * c.columns * c.mels
        self.encoder = nn.Sequential(
            nn.Linear(heard, c.encoder_width),
            nn.SiLU(),
            nn.Linear(c.encoder_width, c.encoder_width),
            nn.SiLU(),
            nn.Linear(c.encoder_width, c.features),
        )
        self.enter = nn.Linear(c.features, c.width)
        self.memory = nn.GRU(c.width, c.width, batch_first=True)
        self.split = nn.Linear(2 * c.width, c.columns * c.column_width)
        self.spectrum = nn.Linear(c.column_width, 2 * c.bins + c.bands)
        nn.init.normal_(self.spectrum.weight, std=0.05)
        # digits that are all the same at first tell the head nothing, and it learns to do without
        nn.init.normal_(self.encoder[-1].get_parameter("weight"), std=4 / c.encoder_width**0.5)
        with torch.no_grad():
            self.spectrum.bias[: c.bins] = -1.0
            self.spectrum.bias[2 * c.bins :] = -2.0
        for name, table in _tables(c).items():
            self.register_buffer(name, table, persistent=False)

    def initial_state(self, batch: int) -> HeadState:
        """Before the first sample: silence."""
        zeros = self.enter.weight.new_zeros
        return HeadState(zeros(batch, self.config.width), zeros(batch, self.config.hop))

    def hear(self, sound: Tensor, before: Tensor | None = None) -> Tensor:
        """Samples (B, T, N) in -1..1 -> log-mel (B, T, K, M), about -1..1. `before` is the tick
        ahead of them, (B, N), silence if None. A column sees its own hop and the one before."""
        hop = self.config.hop
        last = torch.zeros_like(sound[:, 0, :hop]) if before is None else before[:, -hop:]
        line = torch.cat([last, sound.flatten(1)], dim=1)
        columns = line.unfold(1, 2 * hop, hop) * self.window
        mel: Tensor = torch.fft.rfft(columns).abs() @ self.mel
        features: Tensor = (mel.clamp(min=FLOOR).log() / 4 + 0.4).unflatten(
            1, (-1, self.config.columns)
        )
        return features

    @staticmethod
    def loudening(mel: Tensor, after: Tensor) -> Tensor:
        """Log-mel (B, K, M) of two ticks in a row -> how much louder each band becomes, (B, M):
        the rise of the root of its magnitude from column to loudest column, 0 if it does not."""
        now, then = ((4 * (m - 0.4)).exp().sqrt().amax(dim=1) for m in (mel, after))
        return (then - now).clamp(min=0)

    def encode(self, mel: Tensor, before: Tensor | None = None) -> Tensor:
        """Log-mel (B, T, K, M) -> features (B, T, D), digits in -1..1; gradients pass through the
        rounding. `before` is the log-mel (B, K, M) of the tick ahead, that of silence if None."""
        flat = mel.flatten(2)
        first = (
            torch.full_like(flat[:, :1], math.log(FLOOR) / 4 + 0.4)
            if before is None
            else before.flatten(1)[:, None]
        )
        seen = torch.cat([torch.cat([first, flat[:, :-1]], dim=1), flat], dim=2)
        spread = torch.sigmoid(self.encoder(seen)) * (self.config.levels - 1)
        rounded = spread + (spread.round() - spread).detach()
        return 2 * rounded / (self.config.levels - 1) - 1

    def to_codes(self, features: Tensor) -> Tensor:
        """Features (..., D) -> codes int (..., groups)."""
        c = self.config
        digit = ((features + 1) / 2 * (c.levels - 1)).round().long()
        place = c.levels ** torch.arange(c.digits, device=features.device)
        codes: Tensor = (digit.unflatten(-1, (c.groups, c.digits)) * place).sum(dim=-1)
        return codes

    def forward(
        self, features: Tensor, state: HeadState, noise: Tensor
    ) -> tuple[Tensor, HeadState]:
        """Features (B, T, D) and noise (B, T, K, bins, 2) of unit variance -> samples (B, T, N),
        not yet cut to -1..1, and the state after them."""
        c = self.config
        entered = self.enter(features)
        remembered, memory = self.memory(entered, state.memory[None].contiguous())
        both = torch.cat([remembered, entered], dim=-1)
        column = F.silu(self.split(both)).unflatten(-1, (c.columns, c.column_width))
        loud, phase, colour = self.spectrum(column).split([c.bins, c.bins, c.bands], dim=-1)
        loud = loud.clamp(max=5.0).exp()
        hiss = (colour.clamp(max=5.0) @ self.smooth).exp()
        real = loud * phase.cos() + hiss * noise[..., 0]
        imaginary = loud * phase.sin() + hiss * noise[..., 1]
        waves = torch.fft.irfft(torch.complex(real, imaginary)) * self.rise
        first, second = waves.flatten(1, 2).split(c.hop, dim=-1)
        over = torch.cat([state.tail[:, None], second[:, :-1]], dim=1)
        sound = (first + over).reshape(features.shape[0], -1, c.samples)
        return sound, HeadState(memory[0], second[:, -1])


def _tables(c: CodecConfig) -> dict[str, Tensor]:
    """What is computed and not learned."""
    hop = c.hop
    at = torch.arange(2 * hop) + 0.5
    rise = torch.sin(math.pi / 2 * (at * RISE / hop).clamp(max=1.0)).square()
    fall = torch.cos(math.pi / 2 * ((at - hop) / hop).clamp(min=0.0)).square()
    place = torch.linspace(0, c.bands - 1, c.bins)
    smooth = (1 - (place[None] - torch.arange(c.bands)[:, None]).abs()).clamp(min=0.0)
    hann = torch.sin(math.pi * at / (2 * hop)).square()
    return {"mel": mel_filters(c), "window": hann, "rise": rise * fall, "smooth": smooth}


def mel_filters(c: CodecConfig) -> Tensor:
    """(bins, M): triangles, evenly spaced in mel (O'Shaughnessy 1987), of unit sum."""
    top = 2595 * math.log10(1 + c.sample_rate / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, top, c.mels + 2) / 2595) - 1)
    edges = edges / (c.sample_rate / 2) * (c.bins - 1)
    bins = torch.arange(c.bins)[:, None].float()
    # no triangle is narrower than the distance of two bins
    left = torch.minimum(edges[:-2], edges[1:-1] - 1)
    right = torch.maximum(edges[2:], edges[1:-1] + 1)
    up = (bins - left) / (edges[1:-1] - left)
    down = (right - bins) / (right - edges[1:-1])
    filters = torch.minimum(up, down).clamp(min=0.0)
    return filters / filters.sum(dim=0, keepdim=True)
