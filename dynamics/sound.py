"""What is heard next: a_{t+1} drawn from p(a | a_t, v_{t+1}, u_t, memory).

    memory of (a_t, v_{t+1}, u_t) -> codes of the first group -> of the second, given the first ...

Sounds are drawn, not regressed: a monster growls or it does not, the mean of both is mush. The
codes of a tick are drawn group by group, each from a distribution over all of its values.

Shapes: B batch, T ticks, P tokens, C channels, D features of the sound, G groups, V codes, W width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldsim.dynamics.actions import embed_actions, told_actions, unknown_action


@dataclass(frozen=True, kw_only=True)
class SoundDynamicsConfig:
    """Shape of the sound's dynamics."""

    tokens: int = 48  # P
    channels: int = 48  # C
    num_actions: int = 8  # codes; 0 if the actions are axes
    axes: tuple[float, ...] = ()  # what counts as one on each axis of a continuous action
    groups: int = 3  # G, of the codec
    digits: int = 4  # of a group
    levels: int = 4  # of a digit
    token_width: int = 8
    look_width: int = 96
    width: int = 160  # W
    code_width: int = 128

    @property
    def codes(self) -> int:
        """V, values of one group."""
        return int(self.levels**self.digits)


class SoundDynamics(nn.Module):
    """`forward` over clips, `step` in play, same weights."""

    digits: Tensor

    def __init__(self, config: SoundDynamicsConfig) -> None:
        super().__init__()
        self.config = c = config
        self.token = nn.Linear(c.channels, c.token_width)
        self.look = nn.Linear(c.tokens * c.token_width, c.look_width)
        self.act = embed_actions(c.num_actions, c.axes, c.look_width)
        features = c.groups * c.digits
        self.memory = nn.GRU(features + c.look_width, c.width, batch_first=True)
        self.hidden = nn.ModuleList(
            nn.Linear(c.width + c.look_width + group * c.digits, c.code_width)
            for group in range(c.groups)
        )
        self.choose = nn.ModuleList(nn.Linear(c.code_width, c.codes) for _ in range(c.groups))
        values = torch.arange(c.codes)[:, None] // c.levels ** torch.arange(c.digits) % c.levels
        self.register_buffer("digits", 2 * values / (c.levels - 1) - 1, persistent=False)

    @property
    def unknown_action(self) -> float:
        """The action of a tick that nobody knows the action of."""
        return unknown_action(self.config.num_actions, self.config.axes)

    def told(self, actions: Tensor) -> Tensor:
        """Actions as recorded, as `forward` takes them; see `Dynamics.told`."""
        return told_actions(actions, self.config.num_actions, self.config.axes)

    def initial_state(self, batch: int) -> Tensor:
        """Memory before anything was heard or seen, (B, W)."""
        return self.look.weight.new_zeros(batch, self.config.width)

    def forward(
        self, features: Tensor, latents: Tensor, actions: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Features a_t (B, T, D), latents v_{t+1} (B, T, P, C) and actions int (B, T) between them
        -> what the next features depend on (B, T, W + look), and the memory after the last tick."""
        looked = F.silu(self.look(F.silu(self.token(latents)).flatten(-2)) + self.act(actions))
        out, state = self.memory(torch.cat([features, looked], dim=-1), state[None].contiguous())
        return torch.cat([out, looked], dim=-1), state[0]

    def logits(self, hidden: Tensor, features: Tensor) -> Tensor:
        """`forward`'s (B, T, ..) and the features that came, (B, T, D) -> (B, T, G, V)."""
        d = self.config.digits
        rows = [
            self.choose[g](F.silu(self.hidden[g](torch.cat([hidden, features[..., : g * d]], -1))))
            for g in range(self.config.groups)
        ]
        return torch.stack(rows, dim=-2)

    def draw(self, hidden: Tensor, luck: Tensor | None, temperature: float = 1.0) -> Tensor:
        """`forward`'s of one tick, (B, ..), and Gumbel noise (B, G, V) -> features (B, D); the
        likeliest codes without noise."""
        chosen = hidden[:, :0]
        for g in range(self.config.groups):
            inner = F.silu(self.hidden[g](torch.cat([hidden, chosen], dim=-1)))
            score = self.choose[g](inner)
            if luck is not None:
                score = score + temperature * luck[:, g]
            chosen = torch.cat([chosen, self.digits[score.argmax(dim=-1)]], dim=-1)
        return chosen

    def step(
        self, features: Tensor, latent: Tensor, action: Tensor, state: Tensor, luck: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """One tick: (B, D), (B, P, C), int (B,), (B, W), Gumbel noise (B, G, V) or None -> the
        next features (B, D) and memory (B, W)."""
        hidden, state = self.forward(features[:, None], latent[:, None], action[:, None], state)
        return self.draw(hidden[:, 0], luck), state
