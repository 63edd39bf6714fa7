"""What training does with whole pictures: move them, match them, compare them.

Most of the bytes of an update are here. `Pictures` is torch; `NativePictures` computes the same, up
to rounding, in single passes of C++ (pictures.cpp), which takes a second to compile and pays where
there is a compiler: `pictures_for` picks.

Shapes: N frames, P tokens, H W picture with colours in [-1, 1].
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from worldsim.dynamics.matching import REACH, best_of, block_of, match, shifted
from worldsim.tokenizer import warp
from worldsim.training.native import Library

COARSER = 3  # halvings of the picture in the loss of the motion


def motion_loss(moved: Tensor, real: Tensor) -> Tensor:
    """L1 between (N, 3, H, W) pictures, fine and coarse: a brick that is half a brick off looks
    right from close by, and only from far off does one see where it should go."""
    difference = moved - real
    loss = difference.abs().mean()
    for _ in range(COARSER):
        difference = F.avg_pool2d(difference, 2)
        loss = loss + difference.abs().mean()
    return loss


class Pictures:
    """In torch, on any device."""

    def move(self, picture: Tensor, flow: Tensor) -> Tensor:
        """(N, 3, H, W) moved by a flow (N, 2, H, W) in pixels, as `Tokenizer.move` does; the
        gradient reaches the flow."""
        return warp(picture, flow, mode="bicubic").clamp(-1, 1)

    def match(self, before: Tensor, picture: Tensor, grid: tuple[int, int]) -> Tensor:
        """As `worldsim.dynamics.matching.match`."""
        return match(before, picture, grid)

    def match_along(self, pictures: Tensor, grid: tuple[int, int]) -> Tensor:
        """How each picture of (L, T, 3, H, W) came from the one before it, (L, T - 1, 3, h, w)."""
        before, after = pictures[:, :-1], pictures[:, 1:]
        found = self.match(before.flatten(0, 1), after.flatten(0, 1), grid)
        return found.view(*before.shape[:2], *found.shape[1:])

    def motion_loss(self, moved: Tensor, real: Tensor, chosen: Tensor) -> Tensor:
        """The function of that name, of those `chosen`, bool (N,)."""
        return motion_loss(moved[chosen], real[chosen])

    def misplacement(self, moved: Tensor, real: Tensor, tokens: int, reach: int) -> Tensor:
        """L1 per token between (N, 3, H, W) pictures, after the best shift of up to `reach` pixels:
        (N, P)."""
        side = _side(real, tokens)
        errors = [
            F.avg_pool2d((at - real).abs().mean(1, keepdim=True), side).flatten(1)
            for at in shifted(moved, (reach, reach))
        ]
        return torch.stack(errors).amin(dim=0)


class NativePictures(Pictures):
    """In C++, for float32 on the CPU; sides are multiples of 8."""

    def __init__(self, library: Library) -> None:
        self._library = library

    def move(self, picture: Tensor, flow: Tensor) -> Tensor:
        moved: Tensor = _Move.apply(self._library, picture, flow)  # type: ignore[no-untyped-call]
        return moved

    def match(self, before: Tensor, picture: Tensor, grid: tuple[int, int]) -> Tensor:
        gray, wanted = self._halved(before), self._halved(picture)
        return best_of(self._smoothed(gray, wanted, grid))

    def match_along(self, pictures: Tensor, grid: tuple[int, int]) -> Tensor:
        gray = self._halved(pictures.flatten(0, 1)).unflatten(0, pictures.shape[:2])
        before, after = gray[:, :-1].flatten(0, 1), gray[:, 1:].flatten(0, 1)
        best = best_of(self._smoothed(before, after, grid))
        return best.view(len(pictures), -1, *best.shape[1:])

    def motion_loss(self, moved: Tensor, real: Tensor, chosen: Tensor) -> Tensor:
        loss: Tensor = _MotionLoss.apply(self._library, moved, real, chosen)  # type: ignore[no-untyped-call]
        return loss

    def misplacement(self, moved: Tensor, real: Tensor, tokens: int, reach: int) -> Tensor:
        side = _side(real, tokens)
        errors = self._errors(moved, real, (reach, reach), (side, side))
        return errors.amin(dim=1).flatten(1)

    def _halved(self, picture: Tensor) -> Tensor:
        picture = ready(picture)
        n, _, height, width = picture.shape
        gray = picture.new_empty(n, 1, height // 2, width // 2)
        self._library.call("halved", picture, gray, n, height, width)
        return gray

    def _smoothed(self, gray: Tensor, wanted: Tensor, grid: tuple[int, int]) -> Tensor:
        errors = self._errors(gray, wanted, REACH, block_of(wanted, grid))
        smooth = torch.empty_like(errors)
        planes, (rows, columns) = errors.shape[0] * errors.shape[1], errors.shape[2:]
        self._library.call("smoothed", errors, smooth, planes, rows, columns)
        return smooth

    def _errors(
        self, moved: Tensor, real: Tensor, reach: tuple[int, int], block: tuple[int, int]
    ) -> Tensor:
        """L1 per block after each shift of `moved`, row by row: (N, M, h, w)."""
        moved, real = ready(moved), ready(real)
        n, channels, height, width = real.shape
        shifts = (2 * reach[0] + 1) * (2 * reach[1] + 1)
        errors = real.new_empty(n, shifts, height // block[0], width // block[1])
        self._library.call(
            "errors", moved, real, errors, n, channels, height, width, *reach, *block
        )
        return errors


def pictures_for(library: Library | None, size: tuple[int, int]) -> Pictures:
    """The fastest for pictures of `size`, (H, W)."""
    if library is None or any(side % 8 for side in size):
        return Pictures()
    return NativePictures(library)


def ready(x: Tensor) -> Tensor:
    """As the library takes it."""
    return x.detach().float().contiguous()


class _Move(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, library: Library, picture: Tensor, flow: Tensor) -> Tensor:
        picture, flow = ready(picture), ready(flow)
        if flow.shape[2:] != picture.shape[2:]:  # C++ would read beyond its end
            raise ValueError(f"flow must be as large as {picture.shape}, got {flow.shape}")
        moved = torch.empty_like(picture)
        library.call("warp", picture, flow, moved, len(picture), *picture.shape[2:])
        ctx.library = library
        ctx.save_for_backward(picture, flow)
        return moved

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, Tensor]:
        picture, flow = ctx.saved_tensors
        gradient, given, sizes = torch.empty_like(flow), ready(gradients[0]), picture.shape
        ctx.library.call("warp_backward", picture, flow, given, gradient, len(picture), *sizes[2:])
        return None, None, gradient


class _MotionLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, library: Library, moved: Tensor, real: Tensor, chosen: Tensor) -> Tensor:
        moved, real, chosen = ready(moved), ready(real), chosen.to(torch.uint8).contiguous()
        gradient = torch.empty_like(moved)
        loss = library.call("motion_loss", moved, real, chosen, gradient, *moved.shape)
        ctx.save_for_backward(gradient)
        return moved.new_tensor(loss)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return None, gradient * gradients[0], None, None


def _side(picture: Tensor, tokens: int) -> int:
    """Pixels of a token."""
    return int((picture.shape[-2] * picture.shape[-1] / tokens) ** 0.5)
