"""Mamba-2: the chunked matrix form, the recurrence and the plain definition are one function."""

import pytest
import torch

from worldsim.dynamics.ssm import CHUNK, Mamba2, scan


def example(ticks: int) -> tuple[Mamba2, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    layer = Mamba2(width=12, heads=3, state_size=4).double()
    state = torch.randn(2, 3, 4, 4).double()
    return layer, torch.randn(2, ticks, 12).double(), state


@pytest.mark.parametrize("ticks", [1, 2, CHUNK - 1, CHUNK, 2 * CHUNK + 5])
def test_stepping_equals_running_the_clip_at_once(ticks: int) -> None:
    layer, x, state = example(ticks)

    outputs, final = layer(x, state)

    for t in range(ticks):
        y, state = layer.step(x[:, t], state)
        torch.testing.assert_close(y, outputs[:, t])
    torch.testing.assert_close(state, final)


@pytest.mark.parametrize("cut", [1, 17, CHUNK, 50])
def test_a_clip_split_in_two_with_the_state_carried_equals_the_whole(cut: int) -> None:
    layer, x, state = example(64)

    whole, final = layer(x, state)
    first, middle = layer(x[:, :cut], state)
    second, end = layer(x[:, cut:], middle)

    torch.testing.assert_close(torch.cat([first, second], dim=1), whole)
    torch.testing.assert_close(end, final)


def test_the_scan_is_the_recurrence_that_its_file_states() -> None:
    torch.manual_seed(1)
    x, b, c = torch.randn(1, 5, 2, 3), torch.randn(1, 5, 4), torch.randn(1, 5, 4)
    dt, a = torch.rand(1, 5, 2), torch.tensor([-0.5, -2.0])

    y, _ = scan(x, b, c, dt, a, torch.zeros(1, 2, 3, 4))

    h = torch.zeros(2, 3, 4)
    for t in range(5):
        h = torch.exp(dt[0, t] * a)[:, None, None] * h
        h = h + dt[0, t][:, None, None] * torch.einsum("he,n->hen", x[0, t], b[0, t])
        torch.testing.assert_close(y[0, t], h @ c[0, t])


def test_a_step_leaves_the_state_it_was_given_untouched() -> None:
    layer, x, state = example(1)
    kept = state.clone()

    layer.step(x[:, 0], state)

    assert torch.equal(state, kept)
