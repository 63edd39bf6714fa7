"""The sound's dynamics: one step is one tick of a clip, and draws follow the distribution."""

import torch

from worldsim.dynamics.sound import SoundDynamics, SoundDynamicsConfig

CONFIG = SoundDynamicsConfig(tokens=6, channels=8, num_actions=3, width=20, look_width=12)


def model() -> SoundDynamics:
    torch.manual_seed(0)
    return SoundDynamics(CONFIG).requires_grad_(False)


def clip(batch: int = 2, ticks: int = 5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    features = torch.randint(4, (batch, ticks, 12)) * 2 / 3 - 1
    latents = torch.randn(batch, ticks, CONFIG.tokens, CONFIG.channels)
    return features, latents, torch.randint(3, (batch, ticks))


def test_step_by_step_equals_forward() -> None:
    dynamics, (features, latents, actions) = model(), clip()
    whole, last = dynamics(features, latents, actions, dynamics.initial_state(2))

    state = dynamics.initial_state(2)
    for t in range(5):
        drawn, state = dynamics.step(features[:, t], latents[:, t], actions[:, t], state, None)
        torch.testing.assert_close(drawn, dynamics.draw(whole[:, t], None))
    torch.testing.assert_close(state, last)


def test_the_future_changes_nothing_of_before_and_picture_and_action_are_heard() -> None:
    dynamics, (features, latents, actions) = model(), clip()
    start = dynamics.initial_state(2)
    out, _ = dynamics(features, latents, actions, start)
    for changed in (
        (torch.cat([features[:, :3], -features[:, 3:]], dim=1), latents, actions),
        (features, torch.cat([latents[:, :3], -latents[:, 3:]], dim=1), actions),
        (features, latents, torch.cat([actions[:, :3], (actions[:, 3:] + 1) % 3], dim=1)),
    ):
        other, _ = dynamics(*changed, start)
        assert torch.equal(other[:, :3], out[:, :3])
        assert not torch.equal(other[:, 3], out[:, 3])


def test_draws_have_the_frequencies_of_the_distribution() -> None:
    dynamics = model()
    dynamics.choose[0].weight.normal_(std=0.5)
    hidden, _ = dynamics(*clip(1, 1), dynamics.initial_state(1))
    logits = dynamics.logits(hidden, torch.zeros(1, 1, 12))[0, 0, 0]
    torch.manual_seed(4)
    many = 20_000
    luck = -(-torch.rand(many, CONFIG.groups, CONFIG.codes).log()).log()

    drawn = dynamics.draw(hidden[:, 0].expand(many, -1), luck)

    digit = ((drawn[:, :4] + 1) / 2 * 3).round().long()
    codes = (digit * 4 ** torch.arange(4)).sum(dim=1)
    found = torch.bincount(codes, minlength=CONFIG.codes) / many
    assert (found - logits.softmax(dim=0)).abs().sum() < 0.1
