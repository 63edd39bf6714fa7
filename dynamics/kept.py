"""Frames that a player has seen, found again by where the player is.

What left the view and comes back into it was on the screen once. The state keeps M latents of what
was shown, each with the pose that it was seen from: how far the picture has been moved since the
world began, to the right, down and nearer, added up from the flow of each tick. Such dead reckoning
errs, so the pose finds a few that may be it, and what is still in view says which of them it is:

    kept frame = argmin_m sum_p sure_p |z_mp - z_p|^2     over |pose_m - pose| < NEAR + DRIFT way_m

way_m being how far the player went since. If that is ALIKE, it gives what is new in the picture,
and MENDED of the rest, and the pose is brought nearer to its own. What was shown a moment ago is
left out, and what is farther off than that: who stands still would see nothing move. A frame takes
the place of one that was seen from about the same pose, else of the one that was not seen for
longest. Nothing is trained; the cost is fixed (docs/decisions/0022).

Shapes: B players, M kept frames, P tokens, C channels, h w cells. Lengths are in tokens.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from worldsim.dynamics.keyframes import packed, unpacked

KEPT = 128  # M
APART = 0.25  # nearer ones are one
NEAR = 0.3
DRIFT = 0.02
CANDIDATES = 4
OLD = 16  # ticks
NEVER = -(2**40)
ALIKE = 0.8  # mean squared distance, between tokens of unit root mean square
TOLD = 0.2  # share of the view that has to be sure, to say anything
MENDED = 0.1
TRUSTED = 0.2  # of the difference of two poses


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What B players have seen, and where they are."""

    kept: Tensor  # int8 (B, M, P, C)
    kept_pose: Tensor  # (B, M, 4), infinite where nothing is kept yet
    kept_tick: Tensor  # int64 (B, M), when it was shown
    pose: Tensor  # (B, 4): right, down, nearer, and the way there, all in tokens

    def tensors(self) -> dict[str, Tensor]:
        """By name, as in a world's state."""
        return dict(vars(self))


def nothing_kept(latent: Tensor) -> Kept:
    """Of players to whom a `latent` (B, P, C) is shown first."""
    batch, tokens, channels = latent.shape
    return Kept(
        kept=latent.new_zeros(batch, KEPT, tokens, channels, dtype=torch.int8),
        kept_pose=latent.new_full((batch, KEPT, 4), torch.inf),
        kept_tick=torch.full((batch, KEPT), NEVER, device=latent.device),
        pose=latent.new_zeros(batch, 4),
    )


def pose_change(flow: Tensor, cell: float) -> Tensor:
    """By which a `flow` (B, 2, h, w) in pixels changes a pose, (B, 4); tokens are `cell` pixels."""
    y, x = (torch.linspace(-1, 1, n, device=flow.device) for n in flow.shape[-2:])
    nearer = (flow[:, 0] * x + flow[:, 1] * y[:, None]).mean(dim=(1, 2)) / 2
    right, down = flow.mean(dim=(2, 3)).unbind(dim=1)
    moved = torch.stack([right, down, nearer], dim=1) / cell
    return torch.cat([moved, moved.norm(dim=1, keepdim=True)], dim=1)


def find(kept: Kept, latent: Tensor, sure: Tensor, tick: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What was seen from `kept.pose` before `tick` (B,): the frame (B, P, C) that is most like
    `latent` (B, P, C) where that is `sure` (B, P), 0..1; whether it is alike, bool (B,); and where
    the player is, then, (B, 4)."""
    apart = kept.kept_pose - kept.pose[:, None]
    # empty places are infinitely far, and stay so
    allowed = NEAR + DRIFT * apart[..., 3].abs().nan_to_num(posinf=0.0)
    far = apart[..., :3].norm(dim=-1)
    is_recent = tick[:, None] - kept.kept_tick < OLD
    recent = far.masked_fill(~is_recent, torch.inf).amin(dim=1, keepdim=True)
    far = (far / allowed).masked_fill(is_recent | (far > recent), torch.inf)
    near, which = far.topk(CANDIDATES, dim=1, largest=False)
    rows = torch.arange(len(which), device=which.device)
    frames = unpacked(kept.kept[rows[:, None], which], latent.dtype)
    weight = sure / sure.sum(dim=1, keepdim=True).clamp(min=1e-3)
    unlike = ((frames - latent[:, None]).square().mean(dim=-1) * weight[:, None]).sum(dim=-1)
    least, best = unlike.masked_fill(near > 1, torch.inf).min(dim=1)
    is_alike = (least < ALIKE) & (sure.mean(dim=1) > TOLD)
    there = kept.kept_pose[rows, which[rows, best]]
    off = kept.pose - there
    length = off[:, :3].norm(dim=1, keepdim=True).clamp(min=1e-6)
    close = there + off * (APART / length).clamp(max=1 - TRUSTED)
    pose = torch.where(is_alike[:, None], close, kept.pose)
    return frames[rows, best], is_alike, pose


def mix(latent: Tensor, found: Tensor, taken: Tensor, noise: Tensor | None) -> Tensor:
    """`latent`, with what was `found` in the share `taken` (B, P) of each token; see `find`. A
    sample from `noise` (B, P, C) takes whole tokens, as mixtures are blurred."""
    if noise is not None:
        taken = (torch.special.ndtr(noise[..., 4]) < taken).float()
    return torch.lerp(latent, found, taken[..., None].to(latent.dtype))


def share_taken(sure: Tensor, step: Tensor, is_alike: Tensor) -> Tensor:
    """(B, P), how much of each token a kept frame gives that `is_alike` (B,): what is not `sure`
    (B, P), and some of the rest where the picture moves, by `step` (B,): what rests is right."""
    mended = MENDED * (step / APART).clamp(max=1)
    return (1 - (1 - mended[:, None]) * sure) * is_alike[:, None]


def keep(kept: Kept, latent: Tensor, tick: Tensor) -> Kept:
    """With what is shown at `tick` (B,) from `kept.pose`: `latent` (B, P, C)."""
    near, same = (kept.kept_pose - kept.pose[:, None])[..., :3].norm(dim=-1).min(dim=1)
    place = torch.where(near < APART, same, kept.kept_tick.argmin(dim=1))
    rows = torch.arange(len(place), device=place.device)
    frames, poses, ticks = (x.clone() for x in (kept.kept, kept.kept_pose, kept.kept_tick))
    frames[rows, place] = packed(latent)
    poses[rows, place] = kept.pose
    ticks[rows, place] = tick
    return replace(kept, kept=frames, kept_pose=poses, kept_tick=ticks)
