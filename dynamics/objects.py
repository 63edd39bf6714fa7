"""Object slots: what moves by itself in the world, found without labels, followed over time.

    prior      o'[t+1] = carry(o[t], v[t], u[t])         where each slot goes, before the picture
    posterior  o[t+1]  = correct(o'[t+1], v[t+1])        what the picture says

`Field` reads from a latent how surely each cell belongs to an object, which it learned from what a
`Background` cannot explain. The slots then compete for these cells as in slot attention, which is
a soft k-means (Locatello et al. 2020; over time: Kipf et al. 2022, "SAVi"; with position and extent
as soft-argmax: Sauvalle and de La Fortelle 2023), each from where it is expected: a slot is a
Gaussian, and the cells that it wins are its new place, extent and, pooled, its attributes. A cell
that no slot wins gives birth to one. A slot without cells stays, carried by the mean motion of the
action: remembered while it is out of view, soon forgotten where it should be seen and is not.

A slot is a row: x, y, width, height in parts of the frame (x, y its centre, beyond 0..1 out of
view), presence, E attributes; then what only the model reads: is_frozen, ticks unseen, H memory.

Shapes: B batch, K slots, D numbers of a slot, P tokens, C channels, h w cells, N = h * w.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldsim.dynamics.actions import embed_actions, told_actions, unknown_action
from worldsim.dynamics.background import Background
from worldsim.dynamics.config import DynamicsConfig

BOX = slice(0, 4)
PRESENCE = 4
SHOWN = 5  # columns before the attributes
REMEMBERED = 0.5  # presence of what is out of view; above it is seen, below it fades
FADING = 0.6  # of the presence per tick, of what should be seen and is not
FORGOTTEN = 0.1  # presence below which a slot is free again
MEMORY_TICKS = 400.0  # out of view
# how slots compete; searched for on recordings (docs/log.md)
ROUNDS = 3  # of competing for cells, per tick
WIDTH = 0.3  # standard deviation of a slot, of its sides and of a cell each
NOBODY = 0.2  # weight of the background in the competition
FAINT, SOLID = 0.03, 0.2  # of the field: below the one nothing, above the other all of a cell
FILLED = 0.2  # of a box at least, or it shrinks: it holds two objects, or none
LEAST = 1.0  # cells that a slot must win to be seen
SAME = 0.2  # of the sides: slots whose middles are nearer are one
SCALES = (2, 4, 8, 16)  # cells, sides of what may be born
BIRTH = 0.7  # least mean of the field in it
LEAST_LOG = -20.0  # of the weight of a far cell, along each axis
INSIDE = (0.15, 0.85)  # of the frame: what is out of view moves as what is just within


@dataclass(frozen=True, kw_only=True)
class ObjectsConfig:
    """Slots over a grid that is finer than the tokens."""

    slots: int = 8  # K
    attributes: int = 8  # E
    hidden: int = 32  # H, memory of a slot
    cells: int = 4  # per token side
    width: int = 64  # features of the field

    @property
    def size(self) -> int:
        """D, numbers of a slot."""
        return SHOWN + self.attributes + 2 + self.hidden

    @property
    def shown(self) -> int:
        """Of these, the ones that are not the model's own business."""
        return SHOWN + self.attributes


class Field(nn.Module):
    def __init__(self, config: ObjectsConfig, grid: DynamicsConfig) -> None:
        super().__init__()
        self.grid = grid
        width = config.width
        self.layers = nn.Sequential(
            nn.Conv2d(grid.channels, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, (1 + config.attributes) * config.cells**2, 1),
            nn.PixelShuffle(config.cells),
        )

    def forward(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """(B, P, C) -> logit that a cell is part of an object (B, h, w), features (B, N, E)."""
        x = latent.transpose(1, 2).unflatten(2, (self.grid.rows, self.grid.columns))
        x = self.layers(x).float()
        return x[:, 0], x[:, 1:].flatten(2).transpose(1, 2)


class Objects(nn.Module):
    across: Tensor
    down: Tensor
    cell: Tensor
    moments: Tensor

    def __init__(self, config: ObjectsConfig, grid: DynamicsConfig) -> None:
        super().__init__()
        self.config, self.grid = config, grid
        self.rows, self.columns = grid.rows * config.cells, grid.columns * config.cells
        self.background = Background(grid.rows, grid.columns, grid.channels, config.cells)
        self.field = Field(config, grid)
        self.action = embed_actions(grid.num_actions, grid.axes, 16)
        self.scene = nn.Linear(grid.channels, 16)
        last = nn.Linear(64, 4)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.carrier = nn.Sequential(nn.Linear(4 + config.hidden + 32, 64), nn.SiLU(), last)
        self.memory = nn.GRUCell(config.attributes + 5, config.hidden)
        across = (torch.arange(self.columns) + 0.5) / self.columns
        down = (torch.arange(self.rows) + 0.5) / self.rows
        cell = torch.tensor([1 / self.columns, 1 / self.rows] * 2)
        place = torch.stack(
            [across.repeat(self.rows), down.repeat_interleave(self.columns)], dim=-1
        )
        self.register_buffer("across", across, persistent=False)  # middles of the cells
        self.register_buffer("down", down, persistent=False)
        self.register_buffer("cell", cell, persistent=False)  # its sides, twice, as a box is told
        self.register_buffer("moments", torch.cat([place, place.square()], -1), persistent=False)

    def initial_state(self, batch: int) -> Tensor:
        """No objects yet: (B, K, D) zeros."""
        return self.scene.weight.new_zeros(batch, self.config.slots, self.config.size)

    @property
    def unknown_action(self) -> float:
        """The action of a tick that nobody recorded."""
        return unknown_action(self.grid.num_actions, self.grid.axes)

    def told(self, actions: Tensor) -> Tensor:
        """Actions as recorded, as `carry` takes them; see `Dynamics.told`."""
        return told_actions(actions, self.grid.num_actions, self.grid.axes)

    def carry(self, slots: Tensor, latent: Tensor, action: Tensor) -> Tensor:
        """The slots (B, K, D) of the frame whose latent is (B, P, C), after the action (B,). Each
        goes its own way: what happens to one slot is nothing to the others."""
        told = torch.cat([self.action(action), self.scene(latent.mean(dim=1))], dim=-1)
        place = torch.cat([slots[..., :2].clamp(*INSIDE), slots[..., 2:4]], dim=-1)
        hidden = slots[..., -self.config.hidden :]
        unseen = slots[..., self._unseen, None] > 0
        hidden = torch.where(
            unseen | self.is_frozen(slots)[..., None], 0.0, hidden
        )  # the mean motion
        told = told[:, None].expand(-1, slots.shape[1], -1)
        change = self.carrier(torch.cat([place, hidden, told], dim=-1)).float() * self.cell
        # the extent of what nobody sees is what it was
        change = torch.where(unseen, change * change.new_tensor([1, 1, 0, 0]), change)
        there = slots[..., PRESENCE, None] > 0
        box = slots[..., BOX] + torch.where(there, change, 0.0)
        box = torch.cat([box[..., :2], torch.where(there, box[..., 2:].clamp(0.01, 1.5), 0.0)], -1)
        return torch.cat([box, slots[..., PRESENCE:]], dim=-1)

    def correct(self, slots: Tensor, latent: Tensor) -> Tensor:
        """Where the slots (B, K, D) were expected, and the latent (B, P, C) that came -> where
        they are."""
        logit, features = self.field(latent)
        with torch.no_grad():
            found = solid(logit)
            box, is_seen = self._compete(slots, found.flatten(1))
            frozen = self.is_frozen(slots)[..., None]
            box = torch.where(frozen, slots[..., BOX], box)
            held = frozen[..., 0] & (slots[..., PRESENCE] > REMEMBERED)
            rest = found * (1 - self._cover(box, is_seen | held))
            presence, unseen = self._presence(slots, box, is_seen)
            presence = self._part(box, presence, is_seen)
            presence = torch.where(frozen[..., 0], slots[..., PRESENCE], presence)
            box, presence, born = self._bear(box, presence, rest)
            is_seen = (is_seen | born) & (presence > 0)
            is_there = (presence > 0)[..., None]
        pooled = self._pool(box, is_seen, found, features)
        fresh = is_seen[..., None] & ~frozen
        attributes = torch.where(fresh, pooled, slots[..., SHOWN : self.config.shown])
        moved = (box - slots[..., BOX]) / self.cell
        moved = torch.where(born[..., None], 0.0, moved.clamp(-4, 4))
        hidden = torch.where(born[..., None], 0.0, slots[..., -self.config.hidden :])
        heard = torch.cat([attributes, moved, is_seen[..., None].float()], dim=-1)
        after = self.memory(heard.flatten(0, 1), hidden.flatten(0, 1)).view_as(hidden)
        hidden = torch.where(fresh, after.float(), hidden)
        marks = torch.stack([frozen[..., 0].float(), unseen * ~born], dim=-1)
        row = torch.cat([box, presence[..., None], attributes, marks, hidden], dim=-1)
        return torch.where(is_there, row, 0.0)

    def step(self, slots: Tensor, before: Tensor, action: Tensor, latent: Tensor) -> Tensor:
        """Both halves of a tick: latents (B, P, C) before and after the action (B,)."""
        return self.correct(self.carry(slots, before, action), latent)

    def masks(self, slots: Tensor) -> Tensor:
        """Which cells belong to which slot that is in view, (B, K, h, w), 0..1."""
        is_seen = slots[..., PRESENCE] > REMEMBERED
        weights = self._gaussians(slots[..., BOX], is_seen)
        masks: Tensor = self._won(weights).unflatten(2, (self.rows, self.columns))
        return masks

    def freeze(self, slots: Tensor, slot: int) -> Tensor:
        """The slots with one that no longer moves by itself."""
        slots = slots.clone()
        slots[:, slot, self._unseen - 1] = 1.0
        return slots

    def is_frozen(self, slots: Tensor) -> Tensor:
        """bool (B, K)."""
        return slots[..., self._unseen - 1] > 0

    def _compete(self, slots: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes (B, K, 4) after the competition for the cells of the field (B, N), and whether a
        slot won any, bool (B, K)."""
        there = slots[..., PRESENCE] > 0
        box, expected = slots[..., BOX], slots[..., BOX]
        doubt = (0.02 * slots[..., self._unseen, None]).clamp(max=3.0) * self.cell[:2]
        is_seen = there
        for _ in range(ROUNDS):
            share = self._won(self._gaussians(box, there, doubt)) * found[:, None]
            mass = share.sum(dim=-1, keepdim=True)
            weight = (share / mass.clamp(min=1e-6)) @ self.moments  # of x, y, x * x, y * y
            middle = weight[..., :2]
            spread = (weight[..., 2:] - middle.square()).clamp(min=0)
            # sides of a box that is evenly filled
            extent = torch.sqrt(12 * spread + self.cell[:2].square())
            filled = mass * self.cell[:2].prod() / extent.prod(dim=-1, keepdim=True)
            extent = extent * (filled / FILLED).clamp(0.7, 1.0)
            is_seen = there & (mass[..., 0] > LEAST)
            box = torch.where(is_seen[..., None], torch.cat([middle, extent], dim=-1), expected)
        return box, is_seen

    def _presence(self, slots: Tensor, box: Tensor, is_seen: Tensor) -> tuple[Tensor, Tensor]:
        """Presence and ticks unseen, (B, K) both."""
        before, unseen = slots[..., PRESENCE], slots[..., self._unseen]
        in_view = ((box[..., :2] > 0) & (box[..., :2] < 1)).all(dim=-1)
        fading = before.clamp(max=REMEMBERED) * FADING
        away = torch.where(unseen < MEMORY_TICKS, before.clamp(max=REMEMBERED), 0.0)
        presence = torch.where(is_seen, 1.0, torch.where(in_view, fading, away))
        presence = torch.where(presence < FORGOTTEN, 0.0, presence)
        return presence, torch.where(is_seen, 0.0, unseen + (before > 0).float())

    @staticmethod
    def _part(box: Tensor, presence: Tensor, is_seen: Tensor) -> Tensor:
        """Presence (B, K), 0 for a slot that sits on an earlier one: one object, one slot."""
        gap = (box[:, :, None, :2] - box[:, None, :, :2]).abs()
        size = torch.maximum(box[:, :, None, 2:], box[:, None, :, 2:])
        same = (gap < SAME * size).all(dim=-1) & is_seen[:, :, None] & is_seen[:, None, :]
        return torch.where(same.tril(diagonal=-1).any(dim=-1), 0.0, presence)

    def _bear(self, box: Tensor, presence: Tensor, rest: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """At most one slot more, where most of the field (B, h, w) is left over: boxes, presence,
        and which was born, bool (B, K)."""
        best, where = torch.zeros_like(rest[:, 0, 0]), torch.zeros_like(box[:, 0, :2])
        sides = torch.full_like(best, SCALES[0])
        for side in (s for s in SCALES if s <= min(self.rows, self.columns)):
            filled = F.avg_pool2d(rest[:, None], side, stride=1)[:, 0]
            width = filled.shape[2]
            value, index = filled.flatten(1).max(dim=1)
            score = torch.where(value > BIRTH, value * side**0.5, 0.0)
            corner = torch.stack([index % width, index // width], dim=-1)
            better = score > best
            where = torch.where(better[:, None], corner + side / 2, where)
            best, sides = torch.maximum(best, score), torch.where(better, side, sides)
        new = torch.cat([where, sides[:, None].expand(-1, 2)], dim=-1) * self.cell
        free = presence.argmin(dim=1)  # a remembered one makes room if all are taken
        one = F.one_hot(free, presence.shape[1]).bool()
        born = one & (best > 0)[:, None] & (presence <= REMEMBERED)
        box = torch.where(born[..., None], new[:, None], box)
        return box, torch.where(born, 1.0, presence), born

    def _pool(self, box: Tensor, is_seen: Tensor, found: Tensor, features: Tensor) -> Tensor:
        """(B, N, E) -> (B, K, E), the mean over the cells of each slot."""
        share = self._won(self._gaussians(box, is_seen)) * found.flatten(1)[:, None]
        return (share / share.sum(dim=-1, keepdim=True).clamp(min=1e-6)) @ features

    def _cover(self, box: Tensor, is_seen: Tensor) -> Tensor:
        """How much of each cell is somebody's, (B, h, w)."""
        won = self._won(self._gaussians(box, is_seen)).sum(dim=1)
        cover: Tensor = won.unflatten(1, (self.rows, self.columns))
        return cover

    def _gaussians(self, box: Tensor, there: Tensor, doubt: Tensor | float = 0.0) -> Tensor:
        """(B, K, 4) -> (B, K, N), 1 at the middle; 0 for what is not `there`."""
        sigma = WIDTH * (box[..., 2:] + self.cell[:2]) + doubt
        x = -0.5 * ((self.across - box[..., :1]) / sigma[..., :1]).square()
        y = -0.5 * ((self.down - box[..., 1:2]) / sigma[..., 1:]).square()
        # what is smaller yet makes denormal numbers, with which a CPU is slow
        x, y = x.clamp(min=LEAST_LOG).exp(), y.clamp(min=LEAST_LOG).exp()
        return ((y * there[..., None])[..., None] * x[..., None, :]).flatten(2)

    @staticmethod
    def _won(weights: Tensor) -> Tensor:
        return weights / (weights.sum(dim=1, keepdim=True) + NOBODY)

    @property
    def _unseen(self) -> int:
        """The column of the ticks unseen; the one before it says whether the slot is frozen."""
        return self.config.shown + 1


def solid(logit: Tensor) -> Tensor:
    """How much of a cell is object, 0..1, from the logit that the field gives it: what is a little
    strange everywhere adds up to nothing."""
    return ((torch.sigmoid(logit) - FAINT) / (SOLID - FAINT)).clamp(0, 1)


class SlotReader(nn.Module):
    """How the visual update reads the slots: each writes to the tokens that it covers, (B, K, D)
    -> what to add to the context, (B, S, width). Zero until it is trained."""

    def __init__(self, config: ObjectsConfig, grid: DynamicsConfig) -> None:
        super().__init__()
        self.grid = grid
        self.tell = nn.Sequential(nn.Linear(config.size, grid.width // 2), nn.SiLU())
        self.write = nn.Linear(grid.width // 2, grid.width, bias=False)
        nn.init.zeros_(self.write.weight)

    def forward(self, slots: Tensor) -> Tensor:
        rows, columns = self.grid.rows, self.grid.columns
        y = ((torch.arange(rows, device=slots.device) + 0.5) / rows).repeat_interleave(columns)
        x = ((torch.arange(columns, device=slots.device) + 0.5) / columns).repeat(rows)
        size = slots[..., None, 2:4] / 2 + slots.new_tensor([0.5 / columns, 0.5 / rows])
        away = (torch.stack([x, y], dim=-1) - slots[..., None, :2]) / size
        weight = torch.exp(-0.5 * away.square().sum(dim=-1)) * slots[..., PRESENCE, None]
        tokens = weight.transpose(1, 2) @ self.write(self.tell(slots)).float()
        return F.pad(tokens, (0, 0, 0, self.grid.registers))
