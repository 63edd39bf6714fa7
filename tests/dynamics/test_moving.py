"""From a coarse flow to where each pixel comes from."""

import pytest
import torch
from torch.nn import functional as F

from worldsim.dynamics import DynamicsConfig
from worldsim.dynamics.upsampling import Upsampling
from worldsim.dynamics.whole import dither, in_whole_pixels, no_dither
from worldsim.tokenizer import warp

CONFIG = DynamicsConfig(rows=2, columns=3, channels=4, num_actions=3, width=12, heads=3)
ROWS, COLUMNS = 4 * CONFIG.rows, 4 * CONFIG.columns


def upsampled(flow: torch.Tensor, picture: torch.Tensor | None = None) -> torch.Tensor:
    torch.manual_seed(0)
    height, width = CONFIG.cell * ROWS, CONFIG.cell * COLUMNS
    picture = torch.zeros(len(flow), 3, height, width) if picture is None else picture
    told = torch.zeros(len(flow), CONFIG.num_tokens, CONFIG.width)
    return Upsampling(CONFIG)(flow, picture, told)


def test_upsampling_starts_as_bilinear() -> None:
    flow = torch.randn(2, 2, ROWS, COLUMNS)
    bilinear = F.interpolate(flow, scale_factor=CONFIG.cell, mode="bilinear")

    torch.testing.assert_close(upsampled(flow), bilinear, atol=0.05, rtol=0)


def test_what_rests_all_around_stays_at_rest() -> None:
    flow = torch.zeros(1, 2, ROWS, COLUMNS)
    flow[..., 6:] = 5.0  # the right half moves

    fine = upsampled(flow)

    assert (fine[..., : 5 * CONFIG.cell] == 0).all()
    torch.testing.assert_close(fine[..., 7 * CONFIG.cell :], torch.tensor(5.0).expand(1, 2, 32, 20))


def test_it_learns_an_edge_that_bilinear_interpolation_smears() -> None:
    """A gun that rests on the screen, and a wall that turns behind it: white, and gray stripes."""
    torch.manual_seed(0)
    model, told = Upsampling(CONFIG), torch.zeros(8, CONFIG.num_tokens, CONFIG.width)
    flow = torch.full((8, 2, ROWS, COLUMNS), 0.0)
    flow[:, 0, :, 5:] = 3.0
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)

    def errors(fine: torch.Tensor, edge: torch.Tensor) -> torch.Tensor:
        wanted = 3.0 * (torch.arange(CONFIG.cell * COLUMNS) >= edge[:, None])
        return (fine[:, 0] - wanted[:, None]).abs().mean()

    def scene() -> tuple[torch.Tensor, torch.Tensor]:
        """The edge of the gun lies anywhere in two cells."""
        edge = torch.randint(17, 23, (8,))
        stripes = torch.rand(8, 3, 1, CONFIG.cell * COLUMNS) - 1
        gun = torch.arange(CONFIG.cell * COLUMNS) < edge[:, None, None, None]
        return torch.where(gun, 1.0, stripes).expand(8, 3, CONFIG.cell * ROWS, -1), edge

    picture, edge = scene()
    before = errors(model(flow, picture, told), edge)
    for _ in range(150):
        picture, edge = scene()
        loss = errors(model(flow, picture, told), edge)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    picture, edge = scene()

    assert errors(model(flow, picture, told), edge) < 0.3 * before


@pytest.mark.parametrize("speed", [0.1, 0.5, 3.7, -2.3])
def test_whole_pixels_keep_the_speed(speed: float) -> None:
    ticks = torch.arange(400)
    flow = torch.full((400, 2, 1, 1), speed)

    moved = in_whole_pixels(flow, dither(ticks))

    assert torch.equal(moved, moved.round())
    far = moved.cumsum(dim=0)[..., 0, 0] - speed * (ticks[:, None] + 1)
    assert far.abs().max() < 3.0


def test_what_rests_moves_by_no_pixel_and_the_mean_by_parts_of_one() -> None:
    rest, parts = torch.zeros(9, 2, 3, 3), torch.randn(9, 2, 3, 3)

    assert not in_whole_pixels(rest, dither(torch.arange(9))).any()
    assert torch.equal(in_whole_pixels(parts, no_dither(9, parts)), parts)


def test_dither_is_a_function_of_the_tick() -> None:
    late = torch.tensor([7, 10**9])

    assert torch.equal(dither(late), torch.cat([dither(late[:1]), dither(late[1:])]))
    assert (dither(late)[:, :2].abs() <= 0.5).all()


def test_grain_survives_being_moved_by_whole_pixels() -> None:
    torch.manual_seed(0)
    grain = torch.randn(1, 3, 32, 128)

    def contrast(picture: torch.Tensor) -> torch.Tensor:
        """Of neighbours."""
        return picture[..., 48:80].diff(dim=-1).std()

    whole, parts = grain, grain
    for tick in range(24):
        flow = torch.full((1, 2, 32, 128), 0.4 if tick % 2 else -0.4)
        parts = warp(parts, flow, mode="bicubic")
        whole = warp(whole, in_whole_pixels(flow, dither(torch.tensor([tick]))), mode="bicubic")

    assert contrast(whole) > 0.95 * contrast(grain)
    assert contrast(parts) < 0.8 * contrast(grain)
