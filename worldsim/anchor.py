"""Re-anchoring: a world that has lost itself goes on from a frame of its footage.

The alarm rings for a frame that does not follow from the one before. One is an explosion; when it
rings again and again, the picture has fallen apart, and every next one is made from it. Then the
world remembers, in place of what it showed, the keyframe that is most like it as a whole. After
that it is left alone for a while, so that play that is only lively is not cut into pieces.

Shapes: B players, P tokens, C channels, H W picture.
"""

import torch
from torch import Tensor

from worldsim.model import WorldModel

RINGS = 3  # what an alarm adds, and a quiet tick takes away one
TOO_MANY = 36  # twelve alarms in a row, or every second tick for a second
REST = 1000  # ticks without re-anchoring after one


def quiet(batch: int, device: torch.device) -> Tensor:
    """`ringing` of a world that has just begun, int64 (B,): below 0 it is at rest."""
    return torch.zeros(batch, dtype=torch.int64, device=device)


def ringing_after(ringing: Tensor, alarm: Tensor) -> tuple[Tensor, Tensor]:
    """What `ringing` (B,) is a tick later, in which there was an `alarm`, bool (B,), or none; and
    who is to be put back on a keyframe now, bool (B,)."""
    heard = (ringing + torch.where(alarm, RINGS, -1)).clamp(min=0)
    after = torch.where(ringing < 0, ringing + 1, heard)
    is_lost = after >= TOO_MANY
    return torch.where(is_lost, -REST, after), is_lost


def anchored(
    model: WorldModel, latent: Tensor, picture: Tensor, is_lost: Tensor
) -> tuple[Tensor, Tensor]:
    """`latent` (B, P, C) and `picture` (B, 3, H, W), of those who are lost those of a keyframe."""
    if model.keyframes is None or not is_lost.any():
        return latent, picture
    whole = torch.ones(latent.shape[:2], dtype=torch.bool, device=latent.device)
    real = model.keyframes(latent, whole)
    painted = model.tokenizer.step(real, model.tokenizer.decoder.cleared(len(real))).clamp(-1, 1)
    lost = is_lost[:, None, None]
    return torch.where(lost, real, latent), torch.where(lost[..., None], painted, picture)
