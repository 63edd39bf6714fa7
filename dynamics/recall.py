"""Keyframes: pictures of what left the view, given back when it returns.

A world keeps the pictures of the last M places that it looked at. Where it looks is a pose: how
far the middle of the picture has moved so far, sideways and nearer, added up over the flows by
which the mover says that the actions move it (dead reckoning). A picture is kept when the pose is
SPACING away from all that are kept: that is when there is something new in it.

At every tick the kept pictures whose poses lie nearest are moved to where the action leads, and the
one that agrees best with what is already known of the next frame is chosen: retrieval by pose and
by content, at a fixed cost. A small network then decides, token by token, whether what the keyframe
shows is better than what the head made up. It says no to everything at first, so a world plays as
before until it is trained.

Shapes: B batch, M keyframes, P tokens, C channels, H W picture, K tried, S shifts.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldsim.dynamics.config import DynamicsConfig
from worldsim.dynamics.head import Moved

SPACING = 32.0  # pixels between two kept poses
TRIED = 3  # keyframes, the nearest
REACH = 24  # pixels: dead reckoning errs by less
PRICE = 0.001  # error, of colours in [-1, 1], that a pixel against dead reckoning must save
FINE = 4  # cells of the flow per token side
BAND = 8  # rows of pixels that are compared as one
SURE = 0.1  # of the picture must be known and covered, or there is nothing to compare
HIDDEN = 48
DOUBT = -3.0  # logit of taking a token, at first
# a picture (B, 3, H, W) and a coarse flow -> the moved picture and its latent
MovePicture = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Keyframes:
    """What is kept, as a value."""

    pictures: Tensor  # uint8 (B, M, 3, H, W), a ring
    poses: Tensor  # (B, M, 2), where each was seen: pixels sideways, pixels nearer
    pose: Tensor  # (B, 2), where the view is now
    count: Tensor  # int64 (B,), how many were ever kept

    @property
    def is_there(self) -> Tensor:
        """bool (B, M)."""
        size = self.poses.shape[1]
        return torch.arange(size, device=self.count.device) < self.count[:, None]


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What the best keyframe says of the next frame, token by token."""

    picture: Tensor  # (B, 3, H, W)
    latent: Tensor  # (B, P, C)
    logit: Tensor  # (B, P), of taking it
    may: Tensor  # bool (B, P), what it covers

    def compose(self, latent: Tensor, moved: Moved) -> tuple[Tensor, Moved]:
        """The predicted `latent` (B, P, C) and what it starts from, with what is taken in it."""
        taken = self.may & (self.logit > 0)
        shown = _to_pixels(taken, moved.picture)
        both = torch.where(taken[..., None], self.latent, moved.latent)
        picture = torch.where(shown, self.picture, moved.picture)
        latent = torch.where(taken[..., None], self.latent, latent)
        return latent, replace(moved, picture=picture, latent=both)


class Recall(nn.Module):
    """The adapter: keeps keyframes and decides what to take from them."""

    def __init__(self, config: DynamicsConfig, size: int) -> None:
        """`size` is M."""
        super().__init__()
        self.config, self.size = config, size
        # focal length in widths of the picture: what turns, moves faster at the border
        self.lens = nn.Parameter(torch.tensor(100.0), requires_grad=False)
        self.read = nn.Linear(2 * config.channels + 4, HIDDEN)
        self.places = nn.Parameter(torch.zeros(config.num_tokens, HIDDEN))
        self.decide = nn.Linear(HIDDEN, 1)
        nn.init.zeros_(self.decide.weight)
        nn.init.constant_(self.decide.bias, DOUBT)

    def empty(self, picture: Tensor) -> Keyframes:
        """Nothing is kept yet, for players who see `picture` (B, 3, H, W)."""
        batch = len(picture)
        return Keyframes(
            pictures=torch.zeros(
                batch, self.size, *picture.shape[1:], dtype=torch.uint8, device=picture.device
            ),
            poses=picture.new_zeros(batch, self.size, 2),
            pose=picture.new_zeros(batch, 2),
            count=torch.zeros(batch, dtype=torch.int64, device=picture.device),
        )

    def keep(self, kept: Keyframes, picture: Tensor, flow: Tensor | None) -> Keyframes:
        """A tick later: `picture` (B, 3, H, W) in [-1, 1] is what is shown, and the one before was
        moved by `flow` (B, 2, h, w), if there was one. It is kept if it was seen from somewhere
        new; the oldest one goes."""
        pose = kept.pose if flow is None else kept.pose + motion_of(flow)
        far = (kept.poses - pose[:, None]).norm(dim=-1)
        new = far.masked_fill(~kept.is_there, torch.inf).amin(dim=1) >= SPACING
        slot = torch.arange(self.size, device=pose.device) == (kept.count % self.size)[:, None]
        slot = slot & new[:, None]
        if not new.any():
            return replace(kept, pose=pose)
        stored = ((picture + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        return Keyframes(
            pictures=torch.where(slot[..., None, None, None], stored[:, None], kept.pictures),
            poses=torch.where(slot[..., None], pose[:, None], kept.poses),
            pose=pose,
            count=kept.count + new,
        )

    def forward(self, kept: Keyframes, moved: Moved, move: MovePicture) -> Memory:
        """What the keyframes say of the next frame, of which `moved` is known."""
        assert moved.flow is not None, "the mover says by how much it moves"
        gap = (kept.pose + motion_of(moved.flow))[:, None] - kept.poses
        far = gap.norm(dim=-1).masked_fill(~kept.is_there, torch.inf)
        near, rows = far.topk(min(TRIED, self.size), dim=1, largest=False)
        batch = torch.arange(rows.shape[0], device=rows.device)[:, None]
        pictures = kept.pictures[batch, rows].float() / 127.5 - 1
        gap = gap[batch, rows]
        news = moved.news > 0
        error, shift = self._align(pictures, gap, moved.picture, news)
        error = error.masked_fill(near.isinf(), torch.inf)
        best = error.argmin(dim=1, keepdim=True)
        at = batch[:, 0], best[:, 0]
        flow = self._flow(shift[at], gap[at][:, 1], pictures.shape[-1])
        picture, latent = move(pictures[at], flow)
        covered = self._covered(flow, picture.shape[-1])
        may = covered & error[at].isfinite()[:, None]
        sure, far = (
            torch.where(x.isinf(), most, x) for x, most in ((error[at], 2.0), (near[at], 1e3))
        )
        logit = self._judge(moved, picture, latent, sure, far)
        return Memory(picture=picture, latent=latent, logit=logit, may=may)

    def _judge(
        self, moved: Moved, picture: Tensor, latent: Tensor, error: Tensor, far: Tensor
    ) -> Tensor:
        """Logits (B, P): `error` (B,) of the alignment, `far` (B,) in pixels."""
        tokens = moved.news.shape[1]
        differs = (picture - moved.picture).abs().mean(1, keepdim=True)
        side = int((differs.shape[-2] * differs.shape[-1] / tokens) ** 0.5)
        whole = torch.stack([10 * error, (far / SPACING).log1p()], dim=-1)
        told = torch.cat(
            [
                moved.latent,
                latent,
                moved.news[..., None],
                5 * F.avg_pool2d(differs, side).flatten(1)[..., None],
                whole[:, None].expand(-1, tokens, -1),
            ],
            dim=-1,
        )
        logit: Tensor = self.decide(F.silu(self.read(told.float()) + self.places))[..., 0]
        return logit

    def _align(
        self, pictures: Tensor, gap: Tensor, known: Tensor, news: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Shifts (B, K), in pixels, at which pictures (B, K, 3, H, W) fit best, and what they cost:
        the error that is left and PRICE per pixel away from the gap (B, K, 2)."""
        error, shifts = self.errors(pictures, gap, known, news)
        cost = error + PRICE * (shifts - gap[..., :1]).abs()
        least, best = cost.min(dim=-1, keepdim=True)
        # the bottom of the parabola through three neighbours: a pixel is a lot to a brick
        edge = cost.shape[-1] - 1
        left = cost.gather(-1, (best - 1).clamp(min=0))
        right = cost.gather(-1, (best + 1).clamp(max=edge))
        part = (left - right) / (2 * (left + right - 2 * least)).clamp(min=1e-6)
        part = torch.where(part.isfinite(), part, 0.0).clamp(-0.5, 0.5)
        return least[..., 0], (shifts.gather(-1, best) + part)[..., 0]

    def errors(
        self, pictures: Tensor, gap: Tensor, known: Tensor, news: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean absolute errors (B, K, S) of pictures (B, K, 3, H, W) against what is `known`
        (B, 3, H, W) and no `news` (B, P), infinite where too little can be compared, at shifts
        (B, K, S) up to REACH from the gap (B, K, 2), in pixels of the middle of the picture."""
        old, now = _bands(pictures), _bands(known)[:, None]
        width = old.shape[-1]
        usable = _bands(_to_pixels(~news, known).float())[:, None]
        tries = torch.arange(-REACH, REACH + 1, device=old.device, dtype=old.dtype)
        shifts = gap[..., :1].round() + tries  # (B, K, S)
        x = torch.arange(width, device=old.device, dtype=old.dtype)
        middle = (width - 1) / 2
        source = middle + self._turned(x - middle, shifts[..., None], width)  # (B, K, S, W)
        inside = (source >= 0) & (source <= width - 1)
        index = source.clamp(0, width - 1).long()
        # columns are fetched whole, since all rows come from the same one
        b, k, s, w = index.shape
        batch, picture = torch.arange(b, device=old.device), torch.arange(k, device=old.device)
        columns = old.flatten(2, 3).transpose(2, 3)  # (B, K, W, R)
        fetched = columns[batch[:, None, None], picture[:, None], index.flatten(2)]
        fetched = fetched.unflatten(2, (s, w))  # (B, K, S, W, R)
        known_columns = now.flatten(2, 3).transpose(2, 3)[:, :, None]
        may = usable.expand(-1, -1, old.shape[2], -1, -1).flatten(2, 3).transpose(2, 3)[:, :, None]
        differs = ((fetched - known_columns).abs() * may).mean(dim=-1)
        amount = (inside * may.mean(dim=-1)).mean(dim=-1)
        error = (differs * inside).mean(dim=-1) / amount.clamp(min=1e-6)
        return error.masked_fill(amount < SURE, torch.inf), shifts

    def _flow(self, shift: Tensor, nearer: Tensor, width: int) -> Tensor:
        """(B, 2, rows, columns): where each place of the next frame is fetched from in the
        keyframe, `shift` (B,) pixels aside, and `nearer` (B,) by what the edge has moved outwards
        halfway to the border."""
        c = self.config
        rows, columns = FINE * c.rows, FINE * c.columns
        side = width / columns
        x = (torch.arange(columns, device=shift.device) + 0.5) * side - width / 2
        y = (torch.arange(rows, device=shift.device)[:, None] + 0.5 - rows / 2) * side
        focal = self.lens * width
        source = self._turned(x, shift[:, None], width)[:, None]  # (B, 1, columns)
        higher = ((source.square() + focal**2) / (x.square() + focal**2)).sqrt()
        grown = 4 * nearer[:, None, None] / width
        across = source - x - grown * x
        down = y * (higher - 1) - grown * y
        size = (shift.shape[0], rows, columns)
        return torch.stack([across.expand(size), down.expand(size)], dim=1)

    def _turned(self, x: Tensor, shift: Tensor, width: int) -> Tensor:
        """Where the column `x`, in pixels from the middle, was before the view turned so that the
        middle moved by `shift` pixels."""
        focal = self.lens * width
        angle = torch.atan(x / focal) - shift / focal
        return focal * torch.tan(angle.clamp(-1.4, 1.4))

    def _covered(self, flow: Tensor, width: int) -> Tensor:
        """bool (B, P): tokens whose middle, and most of the rest, lies in the keyframe."""
        c = self.config
        side = width / c.columns
        middle = (torch.arange(c.columns, device=flow.device) + 0.5) * side
        source = middle + F.avg_pool2d(flow[:, 0], FINE)
        inside = (source >= 0.4 * side) & (source <= width - 0.4 * side)
        return inside.flatten(1)


def motion_of(flow: Tensor) -> Tensor:
    """How a flow (B, 2, h, w), in pixels, moves the picture: (B, 2), sideways, and outwards halfway
    between the middle and the border."""
    across = flow[:, 0].float()
    x = torch.linspace(-1, 1, flow.shape[-1], device=flow.device)
    outwards = -(across * x).mean(dim=(1, 2)) / (2 * x.square().mean())
    return torch.stack([-across.mean(dim=(1, 2)), outwards], dim=-1)


def _bands(pictures: Tensor) -> Tensor:
    """(..., C, H, W) -> (..., C, H / BAND, W): rows averaged."""
    shape = pictures.shape
    flat = F.avg_pool2d(pictures.reshape(-1, *shape[-3:]), (BAND, 1))
    return flat.reshape(*shape[:-2], *flat.shape[-2:])


def _to_pixels(tokens: Tensor, picture: Tensor) -> Tensor:
    """(B, P) -> (B, 1, H, W), each token as large as it is in the picture (B, 3, H, W)."""
    height, width = picture.shape[-2:]
    side = int((height * width / tokens.shape[1]) ** 0.5)
    grid = tokens.view(tokens.shape[0], 1, height // side, width // side)
    return grid.repeat_interleave(side, dim=2).repeat_interleave(side, dim=3)
