"""Latent actions: what was done between two frames, learned from frames alone.

    u = q(z[t-1], z[t], z[t+1], how the picture moved)     one of A codes
    z[t+1] ~ p(z[t], u)

The decoder p sees only the past and the code, and is thrown away. Where footage has sound, a second
one, the ear, has to say from the code how much louder it becomes: a shot changes little of the
picture and all that is heard. The encoder hears nothing, so that sound without a sight, as music,
finds no way into a code, and what one does can be told from frames alone.

What a player does moves the whole picture, so the decoder is the head's mover: a code is worth
what it says about how the picture moves, and three bits per frame leave no room for the next frame
itself. It sees one frame of the past: keys are held, so that two frames tell it how the picture
moves, and then it does not listen to the code. (Bruce et al. 2024, "Genie", where both are
transformers over pixels.)

Shapes: B batch, P tokens, C channels, S places, D width, A codes, H W picture, K columns of the
sound of a tick, M mel bands.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldsim.dynamics.attention import SpatialAttention
from worldsim.dynamics.config import DynamicsConfig
from worldsim.dynamics.head import Head, Move, Moved, with_registers
from worldsim.dynamics.layers import FeedForward
from worldsim.dynamics.matching import halved, shifted, still

CODE_SIZE = 8  # numbers in which codes are told apart
SHARPNESS = 8.0  # of the soft choice: closeness to a code is between minus this and this
REACH = (2, 5)  # shifts that are tried, down and across, in pixels of the halved picture
PARTS = (3, 4)  # of the picture, down and across, whose shifts are told apart
EAR_WIDTH = 128


class Layer(nn.Module):
    def __init__(self, config: DynamicsConfig) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.RMSNorm(config.width) for _ in range(2))
        self.space = SpatialAttention(config, conditioned=False)
        self.feed = FeedForward(config.width, config.expand)

    def forward(self, x: Tensor) -> Tensor:
        """(B, S, D) -> (B, S, D)."""
        x = x + self.space(self.norms[0](x))
        return x + self.feed(self.norms[1](x))  # type: ignore[no-any-return]


class ActionEncoder(nn.Module):
    """Which code leads from one frame to the next. This part ships with the world."""

    def __init__(self, config: DynamicsConfig, layers: int = 2) -> None:
        super().__init__()
        d = config.width
        self.config = config
        self.read = nn.Linear(3 * config.channels, d)
        self.places = nn.Parameter(0.02 * torch.randn(config.num_places, d))
        shifts = (2 * REACH[0] + 1) * (2 * REACH[1] + 1)
        self.motion = nn.Linear(shifts * PARTS[0] * PARTS[1], d)
        self.layers = nn.ModuleList(Layer(config) for _ in range(layers))
        self.norm = nn.RMSNorm(d)
        self.point = nn.Linear(d, CODE_SIZE)
        self.codes = nn.Parameter(torch.randn(config.num_actions, CODE_SIZE))

    def forward(self, before: Tensor, latent: Tensor, after: Tensor, motion: Tensor) -> Tensor:
        """Three latents in a row, (B, P, C), and the `cost_volume` of the last two pictures
        -> closeness to each code, logits (B, A)."""
        x = self.read(torch.cat([latent, latent - before, after - latent], dim=-1))
        x = with_registers(x, self.config) + self.places + self.motion(motion)[:, None]
        for layer in self.layers:
            x = layer(x)
        points = F.normalize(self.point(self.norm(x).mean(dim=1)).float(), dim=-1)
        # of unit length: free points run away from all codes but one, and no gradient comes back
        return SHARPNESS * points @ F.normalize(self.codes.float(), dim=-1).T


class Ear(nn.Module):
    """How much louder it becomes, from what was heard before and the code."""

    def __init__(self, codes: int, columns: int, mels: int) -> None:
        super().__init__()
        self.told = nn.Linear(codes, EAR_WIDTH, bias=False)
        self.heard = nn.Linear(columns * mels, EAR_WIDTH)
        self.mix = nn.Linear(EAR_WIDTH, EAR_WIDTH)
        self.rise = nn.Linear(EAR_WIDTH, mels)
        nn.init.normal_(self.told.weight)  # as loud as all that was heard
        nn.init.zeros_(self.rise.weight)  # nothing becomes louder

    def forward(self, mel: Tensor, code: Tensor) -> Tensor:
        """The log-mel of a tick (B, K, M) and the weights of the codes (B, A) -> a guess of how
        much louder each band becomes in the next one, (B, M)."""
        x = F.silu(self.heard(mel.flatten(1)) + self.told(code))
        guess: Tensor = self.rise(x + F.silu(self.mix(x)))
        return guess


class LatentActions(nn.Module):
    """The encoder, and what teaches it: the decoder, and an `Ear` for the (K, M) of `sound`."""

    def __init__(self, config: DynamicsConfig, sound: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.config = config
        self.encoder = ActionEncoder(config)
        self.ear = Ear(config.num_actions, *sound) if sound else None
        self.places = nn.Parameter(0.02 * torch.randn(config.num_places, config.width))
        self.decoder = Head(replace(config, mover_layers=2))

    def forward(
        self, latent: Tensor, picture: Tensor, code: Tensor, move: Move
    ) -> tuple[Tensor, Moved]:
        """The last latent (B, P, C) and its picture (B, 3, H, W), and the weights of the codes
        (B, A), one-hot or soft
        -> the next latent, and the moved picture."""
        told = code.to(latent.dtype) @ self.decoder.action.get_parameter("weight")[:-1]
        context = self.places + told[:, None]
        at_rest = still(len(latent), (self.config.rows, self.config.columns), latent)
        moved = self.decoder.mover(context, latent, latent, at_rest, picture, told, move)
        clock = latent.new_tensor([0.0, 1.0, 0.0]).expand(len(latent), 3)
        return self.decoder.told(torch.zeros_like(latent), clock, moved, told), moved


def cost_volume(picture: Tensor, after: Tensor) -> Tensor:
    """How well each shift explains each part of the picture, two (B, 3, H, W) -> (B, M), each part
    with mean 0 over its shifts. Motion is plain to see in it, as in networks for optical flow
    (Sun et al. 2018, "PWC-Net"); a network that has to find it in latents takes for ever."""
    gray, wanted = (halved(x) for x in (picture, after))
    costs = [
        F.adaptive_avg_pool2d((moved - wanted).abs(), PARTS).flatten(1)
        for moved in shifted(gray, REACH)
    ]
    volume = -torch.stack(costs, dim=-1).add(0.01).log()
    return (volume - volume.mean(dim=-1, keepdim=True)).flatten(1)


def choose(logits: Tensor) -> Tensor:
    """The nearest code as a one-hot (B, A) whose gradient is that of the soft choice."""
    soft = logits.softmax(dim=-1)
    hard = F.one_hot(logits.argmax(dim=-1), logits.shape[-1]).to(soft.dtype)
    return hard + soft - soft.detach()


def usage_loss(logits: Tensor) -> Tensor:
    """Sure about each frame, undecided over all of them: H(code | frame) - H(code), in nats.

    The mutual information of frame and code, negative; without it codes die and stay dead.
    """
    each = logits.softmax(dim=-1)
    whole = each.mean(dim=0)
    entropy = -(each * logits.log_softmax(dim=-1)).sum(dim=-1).mean()
    return entropy + (whole * (whole + 1e-9).log()).sum()
