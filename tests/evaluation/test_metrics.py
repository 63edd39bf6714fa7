"""Picture measures on pictures whose answer is known."""

import numpy as np
import pytest

from worldsim.evaluation.metrics import (
    dynamic_psnr,
    flow_magnitude,
    frame_change,
    horizontal_flow,
    psnr,
    sharpness,
)

RNG = np.random.default_rng(0)
TEXTURE = np.repeat(np.repeat(RNG.integers(0, 256, (24, 48, 3)), 4, 0), 4, 1).astype(np.uint8)


def view(x: int, y: int = 8) -> np.ndarray:
    return TEXTURE[y : y + 64, 32 + x : 32 + x + 96]


def test_psnr_of_a_known_error() -> None:
    a = np.full((2, 8, 8, 3), 100, dtype=np.uint8)

    level = psnr(a, a + np.array([0, 10], dtype=np.uint8)[:, None, None, None])

    assert level[0] == 60.0
    assert level[1] == pytest.approx(20 * np.log10(255 / 10), abs=1e-6)


def test_dynamic_psnr_looks_only_where_something_moved() -> None:
    seed = np.zeros((1, 32, 32, 3), dtype=np.uint8)
    real = seed.copy()
    real[0, 8:12, 8:12] = 200

    mine, copied = dynamic_psnr(real, real, seed)

    assert mine[0] == 60.0
    # 16 of the 36 pixels of the grown mask are off by 200
    assert copied[0] == pytest.approx(10 * np.log10(255**2 / (200**2 * 16 / 36)), abs=1e-4)


def test_dynamic_psnr_punishes_invented_motion() -> None:
    seed = np.zeros((1, 32, 32, 3), dtype=np.uint8)
    real = seed.copy()
    real[0, 8:12, 8:12] = 200
    invented = real.copy()
    invented[0, 20:28, 20:28] = 200

    honest, _ = dynamic_psnr(real, real, seed)
    caught, _ = dynamic_psnr(invented, real, seed)

    assert caught[0] < honest[0] - 20


def test_dynamic_psnr_of_a_still_is_not_a_number() -> None:
    still = np.zeros((1, 16, 16, 3), dtype=np.uint8)

    assert np.isnan(dynamic_psnr(still, still, still)[0][0])


@pytest.mark.parametrize("speed", [-10, -3, -1, 1, 3, 10])
def test_horizontal_flow_has_the_sign_of_the_motion(speed: int) -> None:
    clip = np.stack([view(-speed * tick) for tick in range(3)])

    assert np.sign(horizontal_flow(clip[None])[0]) == np.sign(speed)


def test_what_stays_in_front_of_the_view_has_no_say() -> None:
    clip = np.stack([view(-5 * tick) for tick in range(3)])
    clip[:, 20:, 30:66] = view(0)[20:, 30:66]

    assert horizontal_flow(clip[None])[0] > 0


def test_horizontal_flow_of_a_still_is_zero() -> None:
    flat = np.full((1, 3, 32, 64, 3), 90, dtype=np.uint8)

    assert horizontal_flow(flat)[0] == 0
    assert horizontal_flow(np.stack([view(0)] * 3)[None])[0] == 0


def test_flow_measures_motion_and_not_brightness_or_emptiness() -> None:
    flat = np.full((1, 64, 96, 3), 90, dtype=np.uint8)

    assert flow_magnitude(view(0)[None], view(-4)[None])[0] == pytest.approx(4, abs=0.3)
    assert flow_magnitude(view(0)[None], view(0)[None])[0] == 0
    assert flow_magnitude(flat, flat)[0] == 0


def test_blur_lowers_sharpness() -> None:
    loose = TEXTURE.astype(np.float32)
    soft = ((loose[:-1] + loose[1:]) / 2).astype(np.uint8)

    assert sharpness(soft) < 0.8 * sharpness(TEXTURE)


def test_frame_change_is_in_grey_levels() -> None:
    dark = np.full((2, 8, 8, 3), 100, dtype=np.uint8)

    assert frame_change(dark, dark).tolist() == [0.0, 0.0]
    assert frame_change(dark, dark + np.uint8(7)) == pytest.approx([7.0, 7.0], abs=1e-4)
