"""Picture measures: what one frame says about another, and what a clip says about itself.

Frames are uint8 (..., H, W, 3). Nothing here knows about worlds, windows or intervals. All measures
are plain numpy, so that the same numbers come out on every machine.
"""

import numpy as np
import numpy.typing as npt

Frames = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

PSNR_CAP = 60.0  # dB: identical frames would otherwise be infinite and swamp every mean
DYNAMIC_THRESHOLD = 8  # grey levels: smaller changes are codec noise
FLOW_BLOCK = 8  # pixels
FLOW_REACH = (4, 8)  # pixels searched vertically and horizontally; one tic of turning is about 5
TURN_REACH = (3, 12)  # the same for two tics of turning
FLOW_PRICE = 0.25  # grey levels per pixel of motion
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def luma(frames: Frames) -> npt.NDArray[np.float32]:
    """(..., H, W, 3) -> grey levels (..., H, W), 0..255."""
    grey: npt.NDArray[np.float32] = frames.astype(np.float32) @ _LUMA
    return grey


def psnr(a: Frames, b: Frames) -> Floats:
    """(..., H, W, 3) twice -> dB per frame (...), capped at 60."""
    error = a.astype(np.float32) - b.astype(np.float32)
    return _decibel(np.mean(error * error, axis=(-3, -2, -1), dtype=np.float64))


def dynamic_psnr(guess: Frames, real: Frames, seed: Frames) -> tuple[Floats, Floats]:
    """PSNR where something moved: of `guess`, and of the copied `seed` frame on the same mask.

    The mask is what changed from `seed` to `real`, and what `guess` claims has changed (which
    punishes invented motion), both grown by one pixel. (B, H, W, 3) three times -> dB (B,), dB
    (B,); NaN where nothing moved.
    """
    mask = _grow(_changed(real, seed)) | _grow(_changed(guess, seed))
    return _masked_psnr(guess, real, mask), _masked_psnr(seed, real, mask)


def masked_psnr(a: Frames, b: Frames, mask: npt.NDArray[np.bool_], *, least: float = 0.1) -> Floats:
    """PSNR of (B, H, W, 3) frames where `mask` (B, H, W) is true, dB (B,); NaN where that is less
    than the share `least` of the picture."""
    level = _masked_psnr(a, b, mask)
    return np.where(mask.mean(axis=(-2, -1)) >= least, level, np.nan)


def sharpness(frames: Frames) -> Floats:
    """Variance of the 4-neighbour Laplacian of the grey picture: (..., H, W, 3) -> (...)."""
    grey = luma(frames)
    centre = grey[..., 1:-1, 1:-1]
    around = grey[..., :-2, 1:-1] + grey[..., 2:, 1:-1] + grey[..., 1:-1, :-2] + grey[..., 1:-1, 2:]
    spread: Floats = np.var(around - 4 * centre, axis=(-2, -1), dtype=np.float64)
    return spread


def frame_change(before: Frames, after: Frames) -> Floats:
    """Mean absolute grey-level difference: (..., H, W, 3) twice -> (...)."""
    difference = np.abs(luma(after) - luma(before))
    return np.asarray(difference.mean(axis=(-2, -1), dtype=np.float64))


def flow_magnitude(before: Frames, after: Frames) -> Floats:
    """Mean length, in pixels, of the block-matching flow: (B, H, W, 3) twice -> (B,).

    Blocks of 8x8 pixels, full search, mean absolute grey difference. A small price per pixel of
    motion keeps blocks without texture at rest, so a frozen or empty picture has no flow.
    """
    across, down, _ = block_flow(before, after, FLOW_REACH)
    mean: Floats = np.hypot(across, down).mean(axis=(-2, -1), dtype=np.float64)
    return mean


def horizontal_flow(clips: Frames) -> Floats:
    """How far the picture moved to the right over a clip, in pixels: (B, T, H, W, 3) -> (B,).

    Block flow between neighbours, each block weighted by how much better it matches moved than at
    rest: what does not move with the view (a gun in front of it) has no say. Frames about 2 tics
    apart serve best; farther apart, bricks of a wall are taken for their neighbours.
    """
    total = np.zeros(len(clips))
    for before, after in zip(clips.swapaxes(0, 1)[:-1], clips.swapaxes(0, 1)[1:], strict=True):
        across, _, gain = block_flow(before, after, TURN_REACH)
        total += (across * gain).mean(axis=(-2, -1), dtype=np.float64)
    return total


def block_flow(
    before: Frames, after: Frames, reach: tuple[int, int]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Block matching of (B, H, W, 3) twice, up to `reach` pixels vertically and horizontally.

    Returns, each (B, rows, columns): pixels moved to the right, pixels moved down, and by how much
    (grey levels) the match is better than at rest.
    """
    down, across = reach
    a, b = luma(before), luma(after)
    height = (a.shape[1] - 2 * down) // FLOW_BLOCK * FLOW_BLOCK
    width = (a.shape[2] - 2 * across) // FLOW_BLOCK * FLOW_BLOCK
    target = b[:, down : down + height, across : across + width]
    rest = _block_mean(np.abs(a[:, down : down + height, across : across + width] - target))
    best, moved_x, moved_y = rest.copy(), np.zeros_like(rest), np.zeros_like(rest)
    for dy in range(-down, down + 1):
        for dx in range(-across, across + 1):
            top, left = down + dy, across + dx
            error = np.abs(a[:, top : top + height, left : left + width] - target)
            cost = _block_mean(error) + FLOW_PRICE * float(np.hypot(dx, dy))
            better = cost < best
            best = np.where(better, cost, best)
            moved_x = np.where(better, np.float32(-dx), moved_x)
            moved_y = np.where(better, np.float32(-dy), moved_y)
    return moved_x, moved_y, rest - best


def _decibel(mean_square: Floats) -> Floats:
    floor = 255.0**2 * 10 ** (-PSNR_CAP / 10)
    return np.asarray(10 * np.log10(255.0**2 / np.maximum(mean_square, floor)), dtype=np.float64)


def _changed(a: Frames, b: Frames) -> npt.NDArray[np.bool_]:
    difference = np.abs(a.astype(np.int16) - b.astype(np.int16)).max(axis=-1)
    return np.asarray(difference > DYNAMIC_THRESHOLD)


def _grow(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Dilate (B, H, W) by a 3x3 square."""
    wide = mask.copy()
    wide[:, :, 1:] |= mask[:, :, :-1]
    wide[:, :, :-1] |= mask[:, :, 1:]
    tall = wide.copy()
    tall[:, 1:] |= wide[:, :-1]
    tall[:, :-1] |= wide[:, 1:]
    return tall


def _masked_psnr(guess: Frames, real: Frames, mask: npt.NDArray[np.bool_]) -> Floats:
    error = (guess.astype(np.float32) - real.astype(np.float32)) ** 2
    total = np.sum(error.mean(axis=-1) * mask, axis=(-2, -1), dtype=np.float64)
    count = mask.sum(axis=(-2, -1))
    level = _decibel(total / np.maximum(count, 1))
    return np.where(count > 0, level, np.nan)


def _block_mean(error: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    b, h, w = error.shape
    blocks = error.reshape(b, h // FLOW_BLOCK, FLOW_BLOCK, w // FLOW_BLOCK, FLOW_BLOCK)
    mean: npt.NDArray[np.float32] = blocks.mean(axis=(2, 4))
    return mean
