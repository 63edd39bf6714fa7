"""What C++ does with pictures is what torch does with them, forward and backward."""

import pytest
import torch

from worldsim.backends import native
from worldsim.training.native import library_for
from worldsim.training.pictures import NativePictures, Pictures, pictures_for

CPU = torch.device("cpu")
needs_compiler = pytest.mark.skipif(native.compiler() is None, reason="needs a C++ compiler")


@pytest.fixture(scope="module")
def fast() -> Pictures:
    library = library_for(CPU)
    assert library is not None
    return NativePictures(library)


def some(*shape: int, seed: int = 0) -> torch.Tensor:
    """Smooth pictures, since nothing moves in noise."""
    random = torch.Generator().manual_seed(seed)
    coarse = 2 * torch.rand(*shape[:-2], 9, 12, generator=random) - 1
    flat = coarse.flatten(0, -4)
    fine = torch.nn.functional.interpolate(flat, shape[-2:], mode="bicubic").clamp(-1, 1)
    return fine.unflatten(0, shape[:-3])


@needs_compiler
@pytest.mark.parametrize("far", [1.0, 40.0])
def test_pictures_move_alike_and_so_do_gradients(fast: Pictures, far: float) -> None:
    picture, wanted = some(5, 3, 48, 64), some(5, 3, 48, 64, seed=1)
    flow = far * torch.randn(5, 2, 48, 64)
    found = []
    for side in (Pictures(), fast):
        led = flow.clone().requires_grad_()
        moved = side.move(picture, led)
        (moved * wanted).sum().backward()
        found.append((moved.detach(), led.grad))
    (torch_moved, torch_grad), (our_moved, our_grad) = found
    torch.testing.assert_close(our_moved, torch_moved, atol=1e-4, rtol=0)
    assert torch_grad is not None and our_grad is not None
    # at a kink of the clamped picture a rounding error decides: few places, not the whole
    wrong = (our_grad - torch_grad).norm() / torch_grad.norm()
    assert wrong < 1e-2


@needs_compiler
def test_the_gradient_is_that_of_the_flow(fast: Pictures) -> None:
    torch.manual_seed(0)
    picture, way = 0.5 * some(1, 3, 48, 64), torch.randn(1, 2, 48, 64)
    flow = torch.randn(1, 2, 48, 64, requires_grad=True)
    weights = torch.randn(1, 3, 48, 64)
    (slope,) = torch.autograd.grad((fast.move(picture, flow) * weights).sum(), flow)
    ends = [(fast.move(picture, flow + s * way) * weights).double().sum() for s in (1e-2, -1e-2)]
    measured = float((ends[0] - ends[1]).detach() / 2e-2)
    assert float((slope * way).sum()) == pytest.approx(measured, rel=0.05, abs=0.5)


@needs_compiler
def test_a_flow_that_is_no_number_gives_no_numbers(fast: Pictures) -> None:
    flow = torch.zeros(2, 2, 48, 64)
    flow[1] = torch.nan
    flow.requires_grad_()
    moved = fast.move(some(2, 3, 48, 64), flow)
    moved.sum().backward()
    assert moved[0].isfinite().all() and moved[1].isnan().all()
    assert flow.grad is not None and flow.grad[0].isfinite().all() and flow.grad[1].isnan().any()


@needs_compiler
def test_matches_and_losses_are_alike(fast: Pictures) -> None:
    plain, clip = Pictures(), some(2, 6, 3, 48, 64)
    torch.testing.assert_close(
        fast.match_along(clip, (3, 4)), plain.match_along(clip, (3, 4)), atol=1e-3, rtol=0
    )
    before, after = clip[:, 0], clip[:, 0].roll(2, dims=-1)
    torch.testing.assert_close(
        fast.match(before, after, (3, 4)), plain.match(before, after, (3, 4)), atol=1e-3, rtol=0
    )
    moved, real = clip.flatten(0, 1), clip.flatten(0, 1).flip(0)
    for reach in (1, 2):
        torch.testing.assert_close(
            fast.misplacement(moved, real, 12, reach), plain.misplacement(moved, real, 12, reach)
        )
    chosen, found = torch.arange(12) % 3 > 0, []
    for side in (plain, fast):
        led = moved.clone().requires_grad_()
        loss = side.motion_loss(led, real, chosen)
        (2 * loss).backward()
        found.append((loss.detach(), led.grad))
    torch.testing.assert_close(found[1], found[0], atol=1e-7, rtol=1e-4)


def test_odd_sizes_and_other_devices_are_left_to_torch() -> None:
    assert type(pictures_for(library_for(CPU), (60, 64))) is Pictures
    assert library_for(torch.device("cuda")) is None
    assert type(pictures_for(None, (48, 64))) is Pictures
