"""The trunk: one function in two forms, causal to the bit, and no leak between players."""

from dataclasses import replace

import pytest
import torch

from worldsim.dynamics import Dynamics, DynamicsConfig, TrunkState
from worldsim.dynamics.attention import SpatialAttention
from worldsim.dynamics.matching import still

PICTURE = torch.zeros(2, 3, 32, 48).double()
CONFIG = DynamicsConfig(
    rows=2, columns=3, channels=4, num_actions=3, width=12, heads=3, state_size=4, registers=1,
    trunk_layers=2, head_layers=1,
)  # fmt: skip
TICKS = 40


def model() -> Dynamics:
    torch.manual_seed(0)
    dynamics = Dynamics(CONFIG).double()
    for parameter in dynamics.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return dynamics.requires_grad_(False)


def clip(batch: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    latents = torch.randn(batch, TICKS, CONFIG.num_tokens, CONFIG.channels).double()
    return latents, torch.randint(0, 3, (batch, TICKS)), torch.rand(batch, TICKS).double()


def run(dynamics: Dynamics, *inputs: torch.Tensor) -> tuple[torch.Tensor, TrunkState]:
    context, state = dynamics.trunk(*inputs, dynamics.initial_state(len(inputs[0])))
    return context, state


def test_stepping_equals_running_the_clip_at_once() -> None:
    dynamics = model()
    latents, actions, levels = clip()

    outputs, final = run(dynamics, latents, actions, levels)

    state = dynamics.initial_state(2)
    for t in range(TICKS):
        context, state = dynamics.trunk.step(latents[:, t], actions[:, t], levels[:, t], state)
        torch.testing.assert_close(context, outputs[:, t])
    for stepped, at_once in zip(state.memory, final.memory, strict=True):
        torch.testing.assert_close(stepped, at_once)


def test_what_comes_later_never_changes_what_came_before() -> None:
    dynamics = model()
    latents, actions, levels = clip()
    before, _ = run(dynamics, latents, actions, levels)

    latents[:, 20:] += 1
    actions[:, 20:] = (actions[:, 20:] + 1) % 3
    after, _ = run(dynamics, latents, actions, levels)

    assert torch.equal(before[:, :20], after[:, :20])
    assert not torch.equal(before[:, 20:], after[:, 20:])


def test_two_players_in_a_batch_do_not_leak_into_each_other() -> None:
    dynamics = model()
    latents, actions, levels = clip()
    before, _ = run(dynamics, latents, actions, levels)

    latents[0] += 1
    after, _ = run(dynamics, latents, actions, levels)

    assert torch.equal(before[1], after[1])


def test_the_head_answers_the_action_from_the_first_update_on() -> None:
    dynamics = model()
    latents, actions, levels = clip()
    context, state = run(dynamics, latents, actions, levels)
    picture = torch.rand(2, 3, 32, 48).double()

    def predict(action: int) -> torch.Tensor:
        latent, _ = dynamics.predict(
            context[:, -1],
            state.latent,
            latents[:, -2],
            still(2, (2, 3), latents),
            picture,
            torch.full((2,), action),
            lambda *_: (picture, state.latent),
            noise=None,
            steps=1,
        )
        return latent

    assert not torch.allclose(predict(0), predict(1))


def test_a_sample_repaints_only_what_motion_does_not_explain() -> None:
    dynamics = model()
    latents, actions, levels = clip()
    context, state = run(dynamics, latents, actions, levels)
    before, noise = latents[:, -2], torch.randn_like(state.latent)
    picture = torch.zeros(2, 3, 32, 48).double()

    def predict(noise: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        latent, moved = dynamics.predict(
            context[:, -1],
            state.latent,
            before,
            still(2, (2, 3), latents),
            picture,
            torch.zeros(2, dtype=torch.int64),
            lambda *_: (picture, before),
            noise=noise,
            steps=2,
        )
        return (latent == before).all(dim=-1), moved.news

    kept, news = predict(noise)
    assert torch.equal(kept, news + noise[..., 0] <= 0)
    assert kept.any()
    assert not predict(None)[0].any()  # the mean is a bit of both


def test_what_moved_goes_on_moving_if_the_mover_says_so() -> None:
    dynamics = model()
    latents, actions, levels = clip()
    context, state = run(dynamics, latents, actions, levels)
    flows = []

    def move(picture: torch.Tensor, flow: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        flows.append(flow)
        return picture, state.latent

    mover = dynamics.head.mover
    with torch.no_grad():
        mover.flow.weight.zero_()
        mover.flow.bias.zero_()
        mover.keep.weight.zero_()
        mover.keep.bias.fill_(0.5)
    motion = still(2, (2, 3), latents)
    motion[:, 0] = 4.0
    chosen = torch.zeros(2, dtype=torch.int64)
    dynamics.head.move(context[:, -1], state.latent, latents[:, -2], motion, PICTURE, chosen, move)

    assert torch.allclose(flows[0][:, 0], torch.tensor(2.0).double(), atol=0.02)
    assert (flows[0][:, 1] == 0).all()


def test_the_action_moves_the_picture_by_a_flow_of_at_most_the_limit() -> None:
    dynamics = model()
    latents, actions, levels = clip()
    context, state = run(dynamics, latents, actions, levels)
    flows = []

    def move(picture: torch.Tensor, flow: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        flows.append(flow)
        return picture, state.latent

    for action in (0, 1):
        chosen = torch.full((2,), action)
        motion = still(2, (2, 3), latents)
        dynamics.head.move(
            context[:, -1], state.latent, latents[:, -2], motion, PICTURE, chosen, move
        )

    assert flows[0].shape == (2, 2, 32, 48)
    assert not torch.allclose(flows[0], flows[1])
    assert flows[0].abs().max() <= CONFIG.max_flow


def test_a_state_is_a_value() -> None:
    dynamics = model()
    latents, actions, levels = clip()
    state = dynamics.initial_state(2)
    kept = replace(state, memory=tuple(m.clone() for m in state.memory))

    dynamics.trunk.step(latents[:, 0], actions[:, 0], levels[:, 0], state)

    assert all(torch.equal(a, b) for a, b in zip(state.memory, kept.memory, strict=True))


def test_layers_without_memory_step_as_they_run_and_keep_nothing() -> None:
    torch.manual_seed(0)
    config = replace(CONFIG, trunk_layers=4, memory_every=2, bias="offsets")
    dynamics = Dynamics(config).double().requires_grad_(False)
    latents, actions, levels = clip()

    outputs, final = run(dynamics, latents, actions, levels)

    state = dynamics.initial_state(2)
    for t in range(TICKS):
        y, state = dynamics.trunk.step(latents[:, t], actions[:, t], levels[:, t], state)
        torch.testing.assert_close(y, outputs[:, t])
    assert len(state.memory) == len(final.memory) == 2
    for mine, theirs in zip(state.memory, final.memory, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_layers_must_divide() -> None:
    with pytest.raises(ValueError, match="trunk_layers must be a multiple of memory_every"):
        replace(CONFIG, trunk_layers=3, memory_every=2)


def test_a_bias_by_offset_begins_as_one_by_pairs() -> None:
    pairs = SpatialAttention(CONFIG, conditioned=False)
    offsets = SpatialAttention(replace(CONFIG, bias="offsets"), conditioned=True)

    assert torch.equal(offsets.bias[..., offsets.offset], pairs.bias)
    assert "offset" not in offsets.state_dict()  # it follows from the shape


def test_attention_in_training_is_attention_in_play() -> None:
    torch.manual_seed(0)
    attention = SpatialAttention(CONFIG, conditioned=True).double()
    x, condition = torch.randn(5, 7, 12).double(), torch.randn(5, 12).double()

    trained = attention(x, condition)

    with torch.inference_mode():
        torch.testing.assert_close(attention(x, condition), trained.detach())
