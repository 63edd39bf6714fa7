"""A walk that is imagined goes as fast as a real one: what the loss of the pace compares."""

import pytest
import torch
from torch import Tensor

from worldsim.dynamics import Dynamics, DynamicsConfig
from worldsim.tokenizer import Tokenizer, TokenizerConfig
from worldsim.training.exercises import PACE_TICKS, pace_loss
from worldsim.training.imagine import Imagination
from worldsim.training.pictures import Pictures

LANES, TICKS = 3, 6


@pytest.fixture
def chunk() -> tuple[Tensor, Tensor, Tensor]:
    """Pixels (L, T + 1, 3, H, W), latents (L, T + 1, P, C), actions (L, T + 1)."""
    torch.manual_seed(0)
    pixels = torch.rand(LANES, TICKS + 1, 3, 32, 48) * 2 - 1
    latents = torch.randn(LANES, TICKS + 1, 6, 8)
    return pixels, latents, torch.randint(3, (LANES, TICKS + 1))


@pytest.fixture
def imagination() -> Imagination:
    """Of a mover that moves."""
    torch.manual_seed(1)
    config = DynamicsConfig(
        rows=2, columns=3, channels=8, num_actions=3, width=20, heads=5, state_size=4
    )
    dynamics = Dynamics(config)
    torch.nn.init.normal_(dynamics.head.mover.flow.weight, std=0.5)
    torch.nn.init.normal_(dynamics.head.mover.keep.weight, std=0.5)
    tokenizer = Tokenizer(TokenizerConfig(height=32, width=48, channels=8, encoder_width=32))
    return Imagination(dynamics, tokenizer, None, None, Pictures(), torch.float32)


def begin(imagination: Imagination, chunk: tuple[Tensor, ...], free: list[bool]) -> None:
    pixels, latents, _ = chunk
    imagination.begin(pixels, latents, torch.ones(LANES, dtype=torch.bool), 0.5)
    assert imagination.lanes is not None
    imagination.lanes.free = torch.tensor(free)


def flows(imagination: Imagination, chunk: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """By which the pictures are moved, (L, T, 2, h, w), and the age of each past, (L, T)."""
    pixels, latents, actions = chunk
    torch.manual_seed(2)
    context = imagination.context(pixels, latents, actions, actions, 0.5)
    frames = imagination.frames(context, actions, actions)
    return frames.moved.flow.unflatten(0, (LANES, TICKS)), context.age


def test_the_led_flow_is_that_of_the_real_past(
    imagination: Imagination, chunk: tuple[Tensor, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worldsim.training.imagine.CONTEXT_NOISE", 0.0)
    begin(imagination, chunk, [False, False, False])
    real, _ = flows(imagination, chunk)

    begin(imagination, chunk, [False, True, True])
    pixels, latents, actions = chunk
    led = imagination.led_flow(pixels, latents, actions, actions)
    imagined, age = flows(imagination, chunk)

    assert real.abs().mean() > 0.1
    torch.testing.assert_close(led, real[1:])
    torch.testing.assert_close(led[age[1:] == 0], imagined[1:][age[1:] == 0])
    assert (led - imagined[1:])[age[1:] > 0].abs().mean() > 0.01


def test_the_pace_of_an_imagined_past_alone_is_judged_and_not_for_long() -> None:
    ages = torch.tensor([[0, 1, PACE_TICKS, PACE_TICKS + 1]])
    led, flow = torch.zeros(1, 4, 2, 2, 3), torch.zeros(1, 4, 2, 2, 3).requires_grad_()

    pace_loss(flow + torch.tensor([8.0, 1.0, 3.0, 8.0]).view(1, 4, 1, 1, 1), led, ages).backward()

    assert flow.grad is not None
    assert (flow.grad.flatten(2)[0] != 0).all(dim=1).tolist() == [False, True, True, False]
    assert pace_loss(led + 8, led, torch.zeros(1, 4)) == 0
    assert pace_loss(led + 2, led, ages) == 2
