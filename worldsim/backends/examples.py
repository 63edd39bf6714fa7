"""Inputs for every part of a tick: to convert the parts, to warm them up, and to compare them."""

import torch
from torch import Tensor, nn

from worldsim.dynamics.matching import match
from worldsim.dynamics.objects import PRESENCE
from worldsim.dynamics.whole import dither
from worldsim.model import WorldModel

Tensors = tuple[Tensor, ...]


@torch.no_grad()
def example_inputs(model: WorldModel, batch: int) -> dict[str, Tensors]:
    """Inputs of every part on the CPU, always the same ones, sized like the world's own."""
    d, t = model.dynamics.config, model.tokenizer.config
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, generator=generator)

    def latent() -> Tensor:
        return nn.functional.rms_norm(noise(d.num_tokens, d.channels), (d.channels,))

    if d.axes:
        action = torch.tensor(d.axes) * (2 * torch.rand(batch, 1, generator=generator) - 1)
    else:
        action = torch.randint(d.num_actions, (batch,), generator=generator)
    coarse = noise(3, t.height // 8, t.width // 8).clamp(-1, 1)
    picture = nn.functional.interpolate(coarse, (t.height, t.width), mode="bilinear")
    rolled = picture.roll(2, dims=-1)
    motion = match(picture, rolled, (d.rows, d.columns))
    places = (d.num_places, d.width)
    memory = (d.trunk_layers, d.num_places, d.heads, d.width // d.heads, d.state_size)
    noisy = noise(d.num_tokens, d.channels)
    first, then = (torch.tensor([[x, 0.5, 0.0]]).repeat(batch, 1) for x in (0.0, 0.5))
    slots = _slots(model, batch, generator)
    found: dict[str, Tensors] = {
        "move": (
            *(noise(*places), latent(), latent(), motion, picture, action, noisy, first),
            dither(torch.arange(batch)),
            *slots,
        ),
        "refine": (noisy, then, noise(*places), latent(), action),
        "paint": (latent(), latent(), picture, latent()),
        "remember": (latent(), latent(), action, noise(*memory), picture, rolled, *slots),
    }
    if model.keyframes is not None:
        found["recall"] = (latent(), noise(d.num_tokens) > 0)
    if model.sound is not None:
        silence = model.sound.initial_state(batch).tensors()
        heard = tuple(x.cpu() + 0.1 * noise(*x.shape[1:]) for x in silence.values())
        luck, hiss = model.sound.chance(list(range(batch)), [0] * batch)
        found["hear"] = (*heard, latent(), action, luck, hiss)
    return found


def _slots(model: WorldModel, batch: int, generator: torch.Generator) -> Tensors:
    """Half of the slots in view, the others empty; nothing in a world without objects."""
    if model.objects is None:
        return ()
    c = model.objects.config
    slots = torch.rand(batch, c.slots, c.size, generator=generator)
    slots[..., :2] = 0.2 + 0.6 * slots[..., :2]
    slots[..., 2:4] = 0.1 + 0.2 * slots[..., 2:4]
    slots[..., PRESENCE] = 1.0
    slots[..., c.shown : c.shown + 2] = 0.0  # none is frozen or unseen
    slots[:, c.slots // 2 :] = 0.0
    return (slots,)
