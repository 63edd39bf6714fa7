"""The object slots of a live world: what they show, and what one may do to them.

An edit is done in the picture, where an object is a few pixels in one place, and the latent is
read again there; the rest of the state stays as it is.

Shapes: B players, K slots, P tokens, H W picture. Boxes as in dynamics/objects.py.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from worldsim.dynamics.objects import BOX, PRESENCE, REMEMBERED, Objects, solid
from worldsim.state import WorldState
from worldsim.tokenizer import Tokenizer

MARGIN = 2  # pixels around a box that are painted over with it
GLANCES = 4  # at a single picture, to find all that is in it: each finds one object more


def look(objects: Objects, latents: Tensor, actions: Tensor) -> Tensor:
    """The slots (B, K, D) after latents (B, T, P, C) and the actions (B, T) that led to them."""
    slots = objects.initial_state(len(latents))
    for _ in range(GLANCES):
        slots = objects.correct(slots, latents[:, 0])
    for t in range(1, latents.shape[1]):
        slots = objects.step(slots, latents[:, t - 1], actions[:, t], latents[:, t])
    return slots


def edit(
    objects: Objects,
    tokenizer: Tokenizer,
    state: WorldState,
    slot: int,
    *,
    move: Sequence[float] | None,
    remove: bool,
    freeze: bool,
) -> WorldState:
    """`state` with one object moved by (dx, dy) in parts of the frame, removed or frozen.

    Raises ValueError if there is no such object, or if not one thing is asked for.
    """
    if (move is not None) + remove + freeze != 1:
        raise ValueError("edit takes one of move=(dx, dy), remove=True or freeze=True")
    slots = state.slots
    assert slots is not None, "the world has objects"
    if not 0 <= slot < slots.shape[1]:
        raise ValueError(f"slot must be 0..{slots.shape[1] - 1}, got {slot}")
    if not (slots[:, slot, PRESENCE] > 0).all():
        raise ValueError(f"slot {slot} is empty; out.objects says which are not")
    if freeze:
        return replace(state, slots=objects.freeze(slots, slot))
    edited = slots.clone()
    alpha = solidity(objects, slots, state.latent, slot)
    old = inside(slots[:, slot, BOX], state.picture)
    is_seen = (slots[:, slot, PRESENCE] > REMEMBERED).view(-1, 1, 1, 1)
    picture = torch.where(old & is_seen, beside(state.picture, slots[:, slot, BOX]), state.picture)
    touched = old
    if move is None:
        edited[:, slot] = 0.0
    else:
        dx, dy = move
        edited[:, slot, :2] += edited.new_tensor([dx, dy])
        height, width = picture.shape[-2:]
        shift = (round(dx * width), round(dy * height))
        new = inside(edited[:, slot, BOX], picture)
        moved = shifted(torch.cat([state.picture, alpha], dim=1), shift)
        opaque = moved[:, 3:] * new * is_seen
        picture = torch.lerp(picture, moved[:, :3], opaque)
        touched = old | new
    return repaint(tokenizer, replace(state, slots=edited), picture, touched & is_seen)


def hold(
    objects: Objects, tokenizer: Tokenizer, before: WorldState, after: WorldState
) -> WorldState:
    """`after` with what is frozen as it looked in `before`, where the camera's motion puts it."""
    assert before.slots is not None and after.slots is not None
    picture = after.picture
    touched = torch.zeros_like(picture[:, :1], dtype=torch.bool)
    height, width = picture.shape[-2:]
    for slot in range(after.slots.shape[1]):
        is_held = objects.is_frozen(after.slots)[:, slot]
        is_held = is_held & (before.slots[:, slot, PRESENCE] > REMEMBERED)
        if not is_held.any():
            continue
        was, now = (s.slots[:, slot, BOX] for s in (before, after) if s.slots is not None)
        place = inside(now, picture) & is_held.view(-1, 1, 1, 1)
        alpha = solidity(objects, before.slots, before.latent, slot)
        source = torch.cat([before.picture, alpha], dim=1)
        steps = ((now[:, :2] - was[:, :2]) * now.new_tensor([width, height])).round().int()
        moved = torch.cat(
            [
                shifted(s[None], (int(dx), int(dy)))
                for s, (dx, dy) in zip(source, steps, strict=True)
            ]
        )
        picture = torch.lerp(picture, moved[:, :3], moved[:, 3:] * place)
        touched = touched | place
    return repaint(tokenizer, after, picture, touched) if touched.any() else after


def repaint(
    tokenizer: Tokenizer, state: WorldState, picture: Tensor, touched: Tensor
) -> WorldState:
    """`state` with another picture, where `touched` (B, 1, H, W): the tokens there are read
    again, as if they had been so a tick ago, too, or it would look like motion."""
    rows, columns = tokenizer.config.grid
    tokens = F.adaptive_max_pool2d(touched.float(), (rows, columns)).flatten(1)[..., None] > 0
    latent = torch.where(tokens, tokenizer.encode(picture[:, None])[:, 0], state.latent)
    before = torch.where(tokens, latent, state.before)
    return replace(state, picture=picture, latent=latent, before=before)


def solidity(objects: Objects, slots: Tensor, latent: Tensor, slot: int) -> Tensor:
    """How much of each pixel is the object of a slot, (B, 1, H, W), 0..1."""
    logit, _ = objects.field(latent)
    mask = objects.masks(slots)[:, slot] * solid(logit)
    side = 16 // objects.config.cells
    return F.interpolate(1.5 * mask[:, None], scale_factor=side, mode="bilinear").clamp(0, 1)


def inside(box: Tensor, picture: Tensor) -> Tensor:
    """Which pixels of a picture (B, 3, H, W) lie in boxes (B, 4), bool (B, 1, H, W)."""
    height, width = picture.shape[-2:]
    y = torch.arange(height, device=box.device)[:, None] + 0.5
    x = torch.arange(width, device=box.device) + 0.5
    middle_x, middle_y, wide, high = (v.view(-1, 1, 1, 1) for v in box.unbind(dim=-1))
    across = (x - middle_x * width).abs() <= wide * width / 2 + MARGIN
    down = (y - middle_y * height).abs() <= high * height / 2 + MARGIN
    return across & down


def beside(picture: Tensor, box: Tensor) -> Tensor:
    """A picture (B, 3, H, W) in which each row of the boxes (B, 4) is mirrored from beside it, on
    the nearer side that is in the picture: walls and floors go on sideways."""
    width = picture.shape[-1]
    x = torch.arange(width, device=box.device).expand(len(box), width)
    left = ((box[:, 0] - box[:, 2] / 2) * width - MARGIN).round().long()[:, None] - 1
    right = ((box[:, 0] + box[:, 2] / 2) * width + MARGIN).round().long()[:, None] + 1
    from_left, from_right = 2 * left - x, 2 * right - x
    take_left = (from_right >= width) | ((x - left < right - x) & (from_left >= 0))
    source = torch.where(take_left, from_left, from_right).clamp(0, width - 1)
    return picture.gather(3, source[:, None, None].expand_as(picture))


def shifted(x: Tensor, by: tuple[int, int]) -> Tensor:
    """(B, C, H, W) moved by whole pixels right and down; zeros come in."""
    dx, dy = by
    height, width = x.shape[-2:]
    out = torch.zeros_like(x)
    if abs(dx) >= width or abs(dy) >= height:
        return out
    to_y, to_x = slice(max(dy, 0), height + min(dy, 0)), slice(max(dx, 0), width + min(dx, 0))
    of_y, of_x = slice(max(-dy, 0), height - max(dy, 0)), slice(max(-dx, 0), width - max(dx, 0))
    out[..., to_y, to_x] = x[..., of_y, of_x]
    return out
