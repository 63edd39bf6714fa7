"""The sampler, held to diffusers' flow-matching scheduler."""

import pytest
import torch

from worldsim.dynamics import flow


@pytest.mark.parametrize("steps", flow.STEPS[1:])
def test_sampling_follows_the_same_path_as_diffusers(steps: int) -> None:
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    noise, goal = torch.randn(2, 3, 4), torch.randn(2, 3, 4)

    def predict(x: torch.Tensor, time: float, size: float) -> torch.Tensor:
        return goal + 0.3 * torch.tanh(x) * (1 - time)

    ours = flow.sample(predict, noise, steps)

    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    # its sigma is our 1 - time, and it appends the final 0 itself
    scheduler.set_timesteps(sigmas=[1 - i / steps for i in range(steps)])
    x = noise
    for timestep, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
        velocity = (x - predict(x, float(1 - sigma), 1 / steps)) / sigma
        x = scheduler.step(velocity, timestep, x).prev_sample
    torch.testing.assert_close(ours, x)


def test_one_step_takes_the_whole_way_from_the_noise() -> None:
    seen = []
    noise = torch.randn(2, 3)

    def predict(x: torch.Tensor, time: float, size: float) -> torch.Tensor:
        seen.append((x, time, size))
        return torch.ones_like(x)

    result = flow.sample(predict, noise, 1)

    assert [(time, size) for _, time, size in seen] == [(0.0, 1.0)]
    assert torch.equal(seen[0][0], noise)
    assert torch.equal(result, torch.ones(2, 3))


def test_a_shortcut_arrives_where_two_halves_arrive() -> None:
    torch.manual_seed(0)
    x, time, size = torch.randn(4, 3), torch.full((4, 1), 0.5), torch.full((4, 1), 0.5)

    def predict(x: torch.Tensor, time: torch.Tensor, size: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x) + time

    target = flow.shortcut_target(predict, x, time, size)

    half = size / 2
    middle = flow.advance(x, predict(x, time, half), time, half)
    end = flow.advance(middle, predict(middle, time + half, half), time + half, half)
    torch.testing.assert_close(flow.advance(x, target, time, size), end)


def test_other_numbers_of_steps_are_refused() -> None:
    with pytest.raises(ValueError, match=r"flow_steps must be one of \(1, 2, 4\), got 3"):
        flow.sample(lambda x, time, size: x, torch.zeros(1), 3)
