"""The head: from context and action to the next latent. Only this and the decoder are late.

First the picture is moved as the action says (`move`, once per tick), then the head predicts how
the latent of the next frame differs from the latent of the moved picture, in one or several flow
steps (`forward`). x-prediction: whatever the noise, the head says what the next latent will be.

A sample takes that only for the tokens that motion does not explain (`Moved.compose`). Elsewhere
the moved picture is right but for a fraction of a pixel, about which a prediction knows nothing:
it would blur it, again in every tick, until the hall is fog (docs/decisions/0004).

Shapes: B batch, P tokens, C channels, S places (tokens, then registers), D width, H W picture.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from worldsim.dynamics.actions import embed_actions
from worldsim.dynamics.attention import SpatialAttention
from worldsim.dynamics.config import FLOW_CELLS, DynamicsConfig
from worldsim.dynamics.layers import FeedForward
from worldsim.dynamics.matching import CELLS
from worldsim.dynamics.upsampling import Upsampling
from worldsim.dynamics.whole import in_whole_pixels

STILL = 0.06  # pixels per tick: less is no motion
DOUBT = 1.0  # standard deviation, in logits, of what decides about a token
# a picture (B, 3, H, W) and a flow (B, 2, H, W) in pixels -> the picture, moved by it, and the
# latent of that; latents are the tokenizer's business, so the caller brings this
Move = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Moved:
    """What is known of the next frame before any noise."""

    picture: Tensor  # (B, 3, H, W), the last picture, moved
    latent: Tensor  # (B, P, C), of that picture
    features: Tensor  # (B, S, D), for the flow steps
    news: Tensor  # (B, P), logit that motion does not explain the token
    flow: Tensor  # (B, 2, h, w) in pixels, of the cells by which it was moved

    def compose(self, latent: Tensor, noise: Tensor | None) -> Tensor:
        """The predicted `latent` (B, P, C) where there is something new, else what was moved.
        `noise` (B, P, C) decides the doubtful cases; without it they are mixed, as a mean is."""
        if noise is None:
            new = torch.sigmoid(self.news)[..., None].to(latent.dtype)
            return torch.lerp(self.latent.to(latent.dtype), latent, new)
        return torch.where(self.is_new(noise)[..., None], latent, self.latent)

    def sure(self, noise: Tensor | None) -> Tensor:
        """(B, P), how much of each token the moved picture explains: 0 or 1 in a sample from
        `noise`, else the chance of that."""
        return torch.sigmoid(-self.news) if noise is None else (~self.is_new(noise)).float()

    def is_new(self, noise: Tensor) -> Tensor:
        """bool (B, P), which tokens a sample from `noise` (B, P, C) does not take from the moved
        picture."""
        return self.news + DOUBT * noise[..., 0] > 0

    def is_recalled(self, noise: Tensor) -> Tensor:
        """bool (B, P), which of the new ones it takes from a keyframe: an eighth of them. Keyframes
        alone stand still, the head alone has no hall (docs/decisions/0014)."""
        return self.is_new(noise) & (noise[..., 1:4] > 0).all(dim=-1)


class HeadLayer(nn.Module):
    def __init__(self, config: DynamicsConfig) -> None:
        super().__init__()
        d = config.width
        self.norms = nn.ModuleList(nn.RMSNorm(d, elementwise_affine=False) for _ in range(2))
        self.space = SpatialAttention(config, conditioned=True)
        self.feed = FeedForward(d, config.expand)
        self.condition = nn.Linear(d, 6 * d)
        nn.init.zeros_(self.condition.weight)
        with torch.no_grad():
            bias = torch.zeros(6, d)
            bias[[0, 3]] = 1.0  # scales
            bias[[2, 5]] = 1.0  # gates
            self.condition.bias.copy_(bias.flatten())

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B, S, D), (B, D) -> (B, S, D)."""
        scale, shift, gate, scale2, shift2, gate2 = self.condition(condition)[:, None].chunk(6, -1)
        x = x + gate * self.space(self.norms[0](x) * scale + shift, condition)
        return x + gate2 * self.feed(self.norms[1](x) * scale2 + shift2)  # type: ignore[no-any-return]


class Mover(nn.Module):
    """Says how the action moves the picture, and looks at the picture so moved.

    Most of the next frame is this frame, shifted by a fraction of a token. In latents a shift is
    hard to compute and easy in pixels: so it is done there. What is left to the head is what was
    not there to be moved.
    """

    def __init__(self, config: DynamicsConfig) -> None:
        super().__init__()
        d = config.width
        self.config = config
        self.read = nn.Linear(2 * config.channels, d)
        self.motion = nn.Linear(3 * CELLS**2, d)
        self.context = nn.Linear(d, d)
        self.layers = nn.ModuleList(HeadLayer(config) for _ in range(config.mover_layers))
        self.norm = nn.RMSNorm(d, elementwise_affine=False)
        self.flow = nn.Linear(d, 2 * FLOW_CELLS**2)
        self.keep = nn.Linear(d, 2 * FLOW_CELLS**2)  # how much of the last motion goes on
        self.upsampling = Upsampling(config)
        self.look = nn.Linear(2 * config.channels, d)
        self.look_layers = nn.ModuleList(HeadLayer(config) for _ in range(config.look_layers))
        self.news = nn.Linear(d, 1)
        nn.init.zeros_(self.flow.weight)
        nn.init.zeros_(self.flow.bias)
        nn.init.zeros_(self.keep.weight)
        nn.init.zeros_(self.keep.bias)

    def forward(
        self,
        context: Tensor,
        latent: Tensor,
        before: Tensor,
        motion: Tensor,
        picture: Tensor,
        condition: Tensor,
        move: Move,
        dither: Tensor | None = None,
    ) -> Moved:
        """(B, S, D), (B, P, C) twice, (B, 3, h, w) from `match`, the last picture (B, 3, H, W),
        (B, D), (B, 3) or nothing for parts of pixels."""
        c = self.config
        x = self.read(torch.cat([latent, latent - before], dim=-1))
        seen = torch.cat([motion[:, :2] / 4, 5 * motion[:, 2:].clamp(max=0.3)], dim=1)
        x = x + self.motion(_by_token(seen, CELLS))
        x = with_registers(x, c) + self.context(context)
        for layer in self.layers:
            x = layer(x, condition)
        told = self.norm(x[:, : c.num_tokens])
        last = F.interpolate(motion[:, :2], scale_factor=FLOW_CELLS // CELLS, mode="bilinear")
        flow = self.flow(told).float() + self.keep(told).float() * _by_token(last, FLOW_CELLS)
        flow = c.max_flow * torch.tanh(flow / c.max_flow)
        flow = rearrange(
            flow, "b (h w) (c y x) -> b c (h y) (w x)", h=c.rows, c=2, y=FLOW_CELLS, x=FLOW_CELLS
        )
        fine = self.upsampling(flow, picture, told)
        # what rests must rest to the pixel; the gradient passes, or nothing would begin to move
        fine = fine - torch.where(fine.abs() < STILL, fine, 0.0).detach()
        if dither is not None:
            fine = in_whole_pixels(fine, dither)
        moved, seen = move(picture, fine)
        x = x + with_registers(self.look(torch.cat([seen, seen - latent], dim=-1)), c)
        for layer in self.look_layers:
            x = layer(x, condition)
        news = self.news(self.norm(x[:, : c.num_tokens]))[..., 0]
        return Moved(moved, seen, x, news.float(), flow)


class Head(nn.Module):
    def __init__(self, config: DynamicsConfig) -> None:
        super().__init__()
        d = config.width
        self.config = config
        self.mover = Mover(config)
        self.read = nn.Linear(config.channels, d)
        self.action = embed_actions(config.num_actions, config.axes, d)
        self.clock = nn.Sequential(nn.Linear(3, d), nn.SiLU(), nn.Linear(d, d))
        self.layers = nn.ModuleList(HeadLayer(config) for _ in range(config.head_layers))
        self.norm = nn.RMSNorm(d, elementwise_affine=False)
        self.write = nn.Linear(d, config.channels)
        nn.init.zeros_(self.write.weight)
        nn.init.zeros_(self.write.bias)

    def move(
        self,
        context: Tensor,
        latent: Tensor,
        before: Tensor,
        motion: Tensor,
        picture: Tensor,
        action: Tensor,
        move: Move,
        dither: Tensor | None = None,
    ) -> Moved:
        """Once per tick, whatever the number of flow steps: context (B, S, D) from the trunk;
        latent and before (B, P, C), the last two; motion (B, 3, h, w), how the last picture,
        (B, 3, H, W), came from the one before (`match`); action (B,) or (B, A); dither (B, 3), see
        `whole.py`."""
        told = self.action(action)
        return self.mover(context, latent, before, motion, picture, told, move, dither)  # type: ignore[no-any-return]

    def forward(self, noisy: Tensor, clock: Tensor, moved: Moved, action: Tensor) -> Tensor:
        """Predict the next latent.

        noisy (B, P, C), the next latent on its way from noise; clock (B, 3): how far it is (0..1),
        the step that is to be taken from there, the noise level of the context; action (B,)
        -> (B, P, C).
        """
        return self.told(noisy, clock, moved, self.action(action))

    def told(self, noisy: Tensor, clock: Tensor, moved: Moved, action: Tensor) -> Tensor:
        """`forward` for an action that is given as its embedding, (B, D)."""
        x = with_registers(self.read(noisy), self.config) + moved.features
        condition = action + self.clock(clock)
        for layer in self.layers:
            x = layer(x, condition)
        change: Tensor = self.write(self.norm(x[:, : self.config.num_tokens]))
        return moved.latent + change


def _by_token(x: Tensor, cells: int) -> Tensor:
    """(B, C, rows * cells, columns * cells) -> (B, P, C * cells * cells)."""
    return rearrange(x, "b c (h y) (w x) -> b (h w) (c y x)", y=cells, x=cells)


def with_registers(tokens: Tensor, config: DynamicsConfig) -> Tensor:
    """(B, P, D) -> (B, S, D): zeros for the places that are not on the screen."""
    empty = tokens.new_zeros(tokens.shape[0], config.registers, tokens.shape[-1])
    return torch.cat([tokens, empty], dim=1)
