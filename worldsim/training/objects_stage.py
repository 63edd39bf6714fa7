"""Training of the object slots on streams of pictures, latents and actions; nobody says what an
object is.

The background learns what the hall looks like; the field learns to tell from the latent where the
picture is not that; the slots follow the field through each chunk, and the carrier learns where
they go under each action. Attributes are what a painter needs to paint the slots' cells.

Shapes: L lanes, T ticks, N = L * T frames, K slots, D numbers of a slot, h w cells.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldsim.dynamics.background import background_loss, cell_colours, strangeness
from worldsim.dynamics.objects import BOX, PRESENCE, REMEMBERED, SHOWN, Objects, solid
from worldsim.training.device import device_of, fetch, fetch_pixels, lowered
from worldsim.training.loop import take_step
from worldsim.training.streams import Streams

FOLLOW_FROM = 0.3  # of the way: before, the field is not worth following
PAINTED = 16  # frames whose slots are painted per update
FORGET_HIDDEN = 0.3  # chance that a slot is carried without its memory, as out of view
FORGET_ACTIONS = 0.02  # share of actions that are hidden


class ObjectsStage:
    name = "objects"

    def __init__(self, objects: Objects, streams: Streams, *, rate: float = 3e-3) -> None:
        """`streams` yields frames uint8, latents, and actions."""
        self._objects, self._device = objects, device_of(objects)
        painter = Painter(objects).to(self._device)
        self.model = nn.ModuleDict({"objects": objects, "painter": painter})
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(self.model.parameters(), rate, betas=(0.9, 0.98), weight_decay=0.0)
        ]
        self.streams = streams
        self._slots: Tensor | None = None  # of every lane, at the first frame of its next chunk

    def update(self, progress: float) -> dict[str, Tensor]:
        chunk = self.streams.next()
        pixels = fetch_pixels(chunk.arrays[0], self._device)
        latents = fetch(chunk.arrays[1], self._device).float()
        actions = self._objects.told(fetch(chunk.arrays[2], self._device))
        hidden = torch.rand(actions.shape[:2]) < FORGET_ACTIONS
        actions[hidden] = self._objects.unknown_action
        size = (self._objects.rows, self._objects.columns)
        seen = cell_colours(pixels.flatten(0, 1), size)
        losses = self._field_losses(latents.flatten(0, 1), seen)
        losses["loss"] = losses["background"] + losses["field"]
        if progress >= FOLLOW_FROM:
            jumped = fetch(chunk.jumped, self._device)
            carried, followed = self._follow(latents, actions, jumped)
            losses |= {"carried": carried, "painted": self._painted(followed, latents, seen)}
            losses["loss"] = losses["loss"] + losses["carried"] + losses["painted"]
            there = followed[..., PRESENCE].detach() > REMEMBERED
            losses["in_view"] = there.float().sum(dim=-1).mean()
        take_step(self.optimizers, losses["loss"], self.model)
        return {k: v.detach() for k, v in losses.items()}

    def state_dict(self) -> dict[str, Tensor]:
        """What the lanes carry."""
        return {} if self._slots is None else {"slots": self._slots}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state_dict`."""
        self._slots = state["slots"].to(self._device) if state else None

    def _field_losses(self, latents: Tensor, seen: Tensor) -> dict[str, Tensor]:
        with lowered(self._device):
            colours, usual = self._objects.background(latents)
            logit, _ = self._objects.field(latents)
        with torch.no_grad():
            strange = strangeness(colours, usual, seen)
        return {
            "background": background_loss(colours, usual, seen),
            "field": F.binary_cross_entropy_with_logits(logit, strange),
        }

    def _follow(self, latents: Tensor, actions: Tensor, jumped: Tensor) -> tuple[Tensor, Tensor]:
        """How wrong the slots were expected, and the slots after each tick, (L, T, K, D)."""
        model, count = self._objects, len(latents)
        slots = model.initial_state(count) if self._slots is None else self._slots
        slots = slots * ~jumped[:, None, None]
        errors, weights, followed = [], [], []
        cell = slots.new_tensor([model.columns, model.rows] * 2)
        for t in range(latents.shape[1] - 1):
            hidden = slots[..., -model.config.hidden :]
            kept = (torch.rand(hidden.shape[:2]) > FORGET_HIDDEN)[..., None]
            told = torch.cat([slots[..., : -model.config.hidden], hidden * kept], dim=-1)
            prior = model.carry(told, latents[:, t], actions[:, t + 1])
            prior = torch.cat([prior[..., : -model.config.hidden], hidden], dim=-1)
            known = slots[..., PRESENCE].detach() > REMEMBERED
            slots = model.correct(prior, latents[:, t + 1])
            known = known & (slots[..., PRESENCE] > REMEMBERED)
            wrong = (prior[..., BOX] - slots[..., BOX].detach()) * cell
            # what jumps by many cells is another object
            errors.append(F.smooth_l1_loss(wrong, torch.zeros_like(wrong), reduction="none"))
            weights.append((known & (wrong.detach().abs().amax(dim=-1) < 4)).float())
            followed.append(slots)
        self._slots = slots.detach()
        error, weight = torch.stack(errors).mean(dim=-1), torch.stack(weights)
        carried = (error * weight).sum() / weight.sum().clamp(min=1)
        return carried, torch.stack(followed, dim=1)

    def _painted(self, followed: Tensor, latents: Tensor, seen: Tensor) -> Tensor:
        """L1 of the cells of all slots, in some frames, painted from their attributes."""
        rows = torch.randperm(followed.shape[0] * followed.shape[1])[:PAINTED]
        slots = followed.flatten(0, 1)[rows]
        colours = seen.unflatten(0, latents.shape[:2])[:, 1:].flatten(0, 1)[rows].flatten(2)
        with torch.no_grad():
            logit, _ = self._objects.field(latents[:, 1:].flatten(0, 1)[rows])
            mask = self._objects.masks(slots).flatten(2) * solid(logit).flatten(1)[:, None]
        painted: Tensor = self.model["painter"](slots)
        error = (painted - colours[:, None]).abs().mean(dim=2)
        mean: Tensor = (error * mask).sum() / mask.sum().clamp(min=1)
        return mean


class Painter(nn.Module):
    """Colours of the cells of a slot, from its attributes and where in it a cell is."""

    def __init__(self, objects: Objects) -> None:
        super().__init__()
        self._size = (objects.rows, objects.columns)
        self._shown = objects.config.shown
        self.told = nn.Linear(objects.config.attributes, 24)
        self.place = nn.Linear(2, 24, bias=False)
        self.paint = nn.Linear(24, 3)

    def forward(self, slots: Tensor) -> Tensor:
        """(N, K, D) -> (N, K, 3, h * w)."""
        rows, columns = self._size
        y = ((torch.arange(rows) + 0.5) / rows).repeat_interleave(columns)
        x = ((torch.arange(columns) + 0.5) / columns).repeat(rows)
        box = slots[..., BOX].detach()
        place = torch.stack([x, y], dim=-1) - box[..., None, :2]
        place = (place / box[..., None, 2:].clamp(min=1e-3)).clamp(-2, 2)
        told = self.told(slots[..., SHOWN : self._shown])[:, :, None]
        painted: Tensor = self.paint(F.silu(told + self.place(place))).transpose(2, 3)
        return painted
