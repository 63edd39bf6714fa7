"""Footage whose controls are known: a textured picture that pans by one of four motions.

The ticks that a control is held are random, so that the past does not tell what comes next.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SIZE = (48, 64)
MOTIONS = ((0, 4), (0, -4), (3, 0), (-3, 0))  # pixels per tick, down and right
SPRITE = 14  # pixels, side of the monster
SAMPLES = 630  # of sound, per tick


@dataclass(frozen=True, kw_only=True)
class Pan:
    """One episode."""

    frames: NDArray[np.uint8]  # (T, H, W, 3)
    controls: NDArray[np.int64]  # (T,), index into MOTIONS, what led to each frame; -1 at first
    monster: NDArray[np.int64]  # (T,), the same of what walks over the picture
    jolt: NDArray[np.int64]  # (T,), 0..8, which way the camera shook


@dataclass(frozen=True, kw_only=True)
class Shots:
    """One episode with sound."""

    frames: NDArray[np.uint8]  # (T, H, W, 3)
    sound: NDArray[np.int16]  # (T, SAMPLES)
    fired: NDArray[np.bool_]  # (T,), whether something banged


def pan(ticks: int, seed: int, *, with_monster: bool = False, shake: int = 0) -> Pan:
    """An episode of `ticks` frames over one wall, which is the same for all seeds. The camera sits
    up to `shake` pixels off, down and across, anew in every frame."""
    rng = np.random.default_rng(seed)
    wall = _wall()
    controls, monster = _held(ticks, rng), _held(ticks, rng)
    place, spot = rng.integers(200, size=2), np.array([17, 25])
    shakes = np.random.default_rng(seed + 1000).integers(-shake, shake + 1, size=(ticks, 2))
    frames = []
    for t in range(ticks):
        if t:
            place = place - np.array(MOTIONS[controls[t]])
            spot = spot + np.array(MOTIONS[monster[t]])
        rows, columns = (np.arange(n) + p for n, p in zip(SIZE, place + shakes[t], strict=True))
        frame = wall[rows % len(wall)][:, columns % len(wall)].copy()
        if with_monster:
            y, x = (int(p) % (side - SPRITE) for p, side in zip(spot, SIZE, strict=True))
            frame[y : y + SPRITE, x : x + SPRITE] = (220, 40, 40)
        frames.append(frame)
    controls[0] = monster[0] = -1
    down, across = np.sign(np.diff(shakes, axis=0, prepend=shakes[:1])).T + 1
    jolt = 3 * down + across
    return Pan(frames=np.stack(frames), controls=controls, monster=monster, jolt=jolt)


def shots(ticks: int, seed: int, *, with_flash: bool = True) -> Shots:
    """An episode of `ticks` frames in which the picture pans or rests; in some ticks of rest there
    is a flash, and a bang with it. Without the flash nobody sees what bangs."""
    rng = np.random.default_rng(seed + 2000)
    moves = rng.random(ticks) < 0.6
    fired = ~moves & (rng.random(ticks) < 0.4)
    fired[0] = False
    episode = pan(ticks + 1, seed)
    frames = episode.frames[np.cumsum(moves)]
    if with_flash:
        frames[fired, 30:46, 22:42] = (255, 240, 150)
    loud = np.where(fired, 12_000, 300)
    sound = np.clip(rng.normal(size=(ticks, SAMPLES)) * loud[:, None], -32_767, 32_767)
    return Shots(frames=frames, sound=sound.astype(np.int16), fired=fired)


def _wall() -> NDArray[np.uint8]:
    """A torus of smooth random blobs, (200, 200, 3)."""
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(200, 200, 3))
    y, x = np.meshgrid(*[np.fft.fftfreq(200)] * 2, indexing="ij")
    soft = np.exp(-((x**2 + y**2) * 900))[..., None]
    wall = np.fft.ifft2(np.fft.fft2(noise, axes=(0, 1)) * soft, axes=(0, 1)).real
    return np.clip(128 + 60 * wall / wall.std(), 0, 255).astype(np.uint8)


def _held(ticks: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Random controls, each for one to four ticks."""
    controls = rng.integers(len(MOTIONS), size=ticks)
    return np.repeat(controls, rng.integers(1, 5, size=ticks))[:ticks].astype(np.int64)
