"""Mamba-2: the memory of the dynamics model (Dao and Gu 2024, "Transformers are SSMs").

One scalar decay per head; the state of a head is a matrix that is written by outer products:

    h[t] = exp(dt[t] a) h[t-1] + dt[t] x[t] (outer) b[t]        y[t] = h[t] c[t] + skip x[t]

Unrolled over a chunk of Q ticks this is a masked matrix product, which is how `forward` runs,
chunk after chunk; `step` runs the recurrence itself, one tick at constant cost. Both compute the
same function; tests/dynamics/test_ssm.py holds them to it. The causal convolution of the paper is
left out (as in Mamba-3): the trunk is given the last change of the latent instead.

Shapes: B batch, T ticks, D width, H heads, E = D / H features of a head, N state size, Q chunk.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CHUNK = 32  # ticks: the masked matrix is Q x Q per head


# values (B, H, E), b and c (B, N), dt (B, H), a (H,) negative, state (B, H, E, N)
# -> outputs (B, H, E), next state, in new tensors
Update = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def update(
    values: Tensor, b: Tensor, c: Tensor, dt: Tensor, a: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """The recurrence, one tick; shapes as in `Update`, of which this is the specification."""
    decay = torch.exp(dt * a)
    written = torch.einsum("bhe,bn->bhen", dt[..., None] * values, b)
    state = decay[..., None, None] * state + written
    return torch.einsum("bhen,bn->bhe", state, c), state


class Mamba2(nn.Module):
    def __init__(self, width: int, heads: int, state_size: int) -> None:
        super().__init__()
        self.heads, self.state_size = heads, state_size
        self.read = nn.Linear(width, 2 * width + 2 * state_size + heads, bias=False)
        self.write = nn.Linear(width, width, bias=False)
        # decays that halve in 1 to 400 ticks at first: some heads hold, some follow
        self.log_rate = nn.Parameter(torch.linspace(0.0, -6.0, heads))
        self.step_bias = nn.Parameter(torch.zeros(heads))
        self.skip = nn.Parameter(torch.ones(heads))
        self.norm = nn.Parameter(torch.ones(width))
        self.update: Update = update  # a backend may bring another

    def initial_state(self, batch: int) -> Tensor:
        """Memory of a world in which nothing has happened yet: (B, H, E, N) zeros."""
        features = self.norm.numel() // self.heads
        return self.norm.new_zeros(batch, self.heads, features, self.state_size)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, D), (B, H, E, N) -> outputs (B, T, D), state after the last tick."""
        gate, values, b, c, dt = self._project(x)
        outputs, state = scan(values, b, c, dt, -torch.exp(self.log_rate), state)
        return self._finish(outputs, values, gate), state

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """(B, D), (B, H, E, N) -> output (B, D), next state. `state` is left untouched."""
        gate, values, b, c, dt = self._project(x)
        outputs, state = self.update(values, b, c, dt, -torch.exp(self.log_rate), state)
        return self._finish(outputs, values, gate), state

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        width, n = self.norm.numel(), self.state_size
        gate, values, b, c, dt = self.read(x).split([width, width, n, n, self.heads], dim=-1)
        # the recurrence runs in full precision: errors of a decay multiply over the ticks
        full = self.norm.dtype
        values = values.to(full).unflatten(-1, (self.heads, -1))
        b, c = F.rms_norm(b.to(full), (n,)), F.rms_norm(c.to(full), (n,))
        return gate, values, b, c, F.softplus(dt.to(full) + self.step_bias)

    def _finish(self, outputs: Tensor, values: Tensor, gate: Tensor) -> Tensor:
        y = (outputs + self.skip[:, None] * values).flatten(-2)
        y = F.rms_norm(y * F.silu(gate), (y.shape[-1],), self.norm)
        written: Tensor = self.write(y)
        return written


def scan(
    x: Tensor, b: Tensor, c: Tensor, dt: Tensor, a: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Run the recurrence over T ticks, CHUNK at a time, as masked matrix products.

    x (B, T, H, E), b and c (B, T, N), dt (B, T, H), a (H,) negative, state (B, H, E, N)
    -> y (B, T, H, E), state after the last tick. This is the specification of every backend.
    """
    outputs = []
    with torch.autocast(x.device.type, enabled=False):
        for start in range(0, x.shape[1], CHUNK):
            part = slice(start, start + CHUNK)
            y, state = _scan_chunk(x[:, part], b[:, part], c[:, part], dt[:, part], a, state)
            outputs.append(y)
    return torch.cat(outputs, dim=1), state


def _scan_chunk(
    x: Tensor, b: Tensor, c: Tensor, dt: Tensor, a: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    ticks = x.shape[1]
    # log decay from the chunk's start to each tick, (B, H, Q)
    reach = (dt * a).cumsum(dim=1).transpose(1, 2)
    since = reach[..., :, None] - reach[..., None, :]
    past = torch.ones(ticks, ticks, dtype=torch.bool, device=x.device).tril()
    decay = torch.exp(since.masked_fill(~past, -torch.inf))
    mixing = decay * (c @ b.transpose(1, 2))[:, None]
    written = (dt[..., None] * x).transpose(1, 2)  # (B, H, Q, E)
    kept = torch.exp(reach)[..., None]  # of the incoming state, at each tick
    y = mixing @ written + kept * (c[:, None] @ state.transpose(-1, -2))
    remains = torch.exp(reach[..., -1:] - reach)[..., None]
    state = kept[..., -1:, :] * state + (remains * written).transpose(-1, -2) @ b[:, None]
    return y.transpose(1, 2), state
