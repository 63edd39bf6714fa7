"""Frames that did not follow from the one before: what an alarm must notice.

Used to train the detector, and, with other boxes and other frames, to grade it.

Shapes: N pictures, H W picture; boxes are top, left, height, width in pixels.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Box = tuple[int, int, int, int]
BLOCK = 16  # pixels, side of the blocks that are shuffled
SHUFFLED = 3  # blocks on each side of the place that is shuffled
FILLS = ("mirror", "between", "other")


def cut(picture: Tensor, other: Tensor) -> Tensor:
    """Another moment, (3, H, W) in [-1, 1]."""
    return other.clone()


def patch_noise(picture: Tensor, other: Tensor) -> Tensor:
    """A rectangle of noise, a sixth to a third of the height on each side."""
    y, x, h, w = random_box(picture, 1 / 6, 1 / 3)
    noisy = picture.clone()
    noisy[:, y : y + h, x : x + w] = 2 * torch.rand(3, h, w) - 1
    return noisy


def block_shuffle(picture: Tensor, other: Tensor) -> Tensor:
    """A square of nine blocks, in another order."""
    side = min(SHUFFLED * BLOCK, *picture.shape[1:]) // BLOCK * BLOCK
    y = int(torch.randint(picture.shape[1] - side + 1, ()))
    x = int(torch.randint(picture.shape[2] - side + 1, ()))
    part = picture[:, y : y + side, x : x + side]
    n = side // BLOCK
    blocks = part.reshape(3, n, BLOCK, n, BLOCK).permute(1, 3, 0, 2, 4).reshape(-1, 3, BLOCK, BLOCK)
    blocks = blocks[torch.randperm(len(blocks))]
    mixed = blocks.reshape(n, n, 3, BLOCK, BLOCK).permute(2, 0, 3, 1, 4).reshape(3, side, side)
    shuffled = picture.clone()
    shuffled[:, y : y + side, x : x + side] = mixed
    return shuffled


def vanish(picture: Tensor, other: Tensor) -> Tensor:
    """What is in a random box is gone: `erase` for footage whose objects nobody knows."""
    box = random_box(picture, 1 / 12, 1 / 3)
    return erase(picture, box, FILLS[int(torch.randint(len(FILLS), ()))], other)


def erase(picture: Tensor, box: Box, fill: str, other: Tensor) -> Tensor:
    """(3, H, W) without what is in `box`: filled with the mirrored strip beside it, with what lies
    between its left and its right edge, or with the same place in another picture."""
    y, x, h, w = box
    width = picture.shape[2]
    left, right = x, width - x - w  # pixels beside the box
    if fill == "mirror" and max(left, right) < w:
        fill = "between"
    erased = picture.clone()
    place = erased[:, y : y + h, x : x + w]
    if fill == "other":
        place.copy_(other[:, y : y + h, x : x + w])
    elif fill == "mirror" and left >= right:
        place.copy_(picture[:, y : y + h, x - w : x].flip(-1))
    elif fill == "mirror":
        place.copy_(picture[:, y : y + h, x + w : x + 2 * w].flip(-1))
    else:
        a = picture[:, y : y + h, max(x - 1, 0)][..., None]
        b = picture[:, y : y + h, min(x + w, width - 1)][..., None]
        place.copy_(torch.lerp(a, b, torch.linspace(0, 1, w)))
    return erased


def random_box(picture: Tensor, least: float, most: float) -> Box:
    """Sides of `least` to `most` of the picture's height, anywhere in it."""
    _, height, width = picture.shape
    h, w = (max(2, int(height * (least + (most - least) * torch.rand(())))) for _ in range(2))
    y, x = int(torch.randint(height - h + 1, ())), int(torch.randint(width - w + 1, ()))
    return y, x, h, w


# a picture and another moment of the footage, (3, H, W) -> what is shown instead of the picture
KINDS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cut": cut,
    "patch_noise": patch_noise,
    "block_shuffle": block_shuffle,
    "vanish": vanish,
}
