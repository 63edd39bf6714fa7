"""Actions as the networks are told them: codes out of a table, or axes; both may be unknown."""

import math

import pytest
import torch

from worldsim.dynamics import Dynamics, DynamicsConfig
from worldsim.dynamics.actions import AxesEmbedding, embed_actions
from worldsim.dynamics.matching import still

CONFIG = DynamicsConfig(
    rows=2, columns=3, channels=4, num_actions=0, axes=(8.0, 50.0), width=12, heads=3,
    state_size=4, registers=1, trunk_layers=2, head_layers=1,
)  # fmt: skip
NAN = float("nan")


def test_axes_are_embedded_linearly_in_units_of_their_scale() -> None:
    torch.manual_seed(0)
    embed = AxesEmbedding((8.0, 50.0), 5)

    rest, turn, half, both = embed(torch.tensor([[0.0, 0.0], [8.0, 0.0], [4.0, 0.0], [8.0, -50.0]]))

    torch.testing.assert_close(half - rest, (turn - rest) / 2)
    torch.testing.assert_close(turn - rest, embed.axes.weight[:, 0])
    torch.testing.assert_close(both - turn, -embed.axes.weight[:, 1])


def test_an_unknown_action_has_an_embedding_and_no_gradient_is_lost_to_it() -> None:
    torch.manual_seed(0)
    embed = AxesEmbedding((1.0, 1.0), 5)

    told = embed(torch.tensor([[[NAN, NAN], [1.0, 0.0]], [[0.5, NAN], [0.0, 0.0]]]))
    told.sum().backward()

    assert torch.equal(told[0, 0], embed.unknown) and torch.equal(told[1, 0], embed.unknown)
    assert embed.axes.weight.grad is not None and embed.axes.weight.grad.isfinite().all()


def test_a_world_of_codes_keeps_its_table() -> None:
    assert list(embed_actions(8, (), 4).state_dict()) == ["weight"]
    assert embed_actions(8, (), 4).state_dict()["weight"].shape == (9, 4)


def test_recorded_actions_become_what_the_networks_take() -> None:
    codes = Dynamics(DynamicsConfig(num_actions=3, width=20, heads=5, channels=4))
    axes = Dynamics(CONFIG)

    assert codes.told(torch.tensor([[-1, 2]])).tolist() == [[3, 2]]
    assert codes.unknown_action == 3 and math.isnan(axes.unknown_action)
    recorded = torch.tensor([[[NAN, NAN], [3.5, 0.0]]])
    told = axes.told(recorded)
    told[0, 1] = axes.unknown_action
    assert told.isnan().all() and recorded[0, 1, 0] == 3.5, "the footage stays as it is"


def test_the_trunk_steps_as_it_runs_and_the_head_is_led_by_the_axes() -> None:
    torch.manual_seed(0)
    dynamics = Dynamics(CONFIG).double().requires_grad_(False)
    for parameter in dynamics.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    latents = torch.randn(2, 9, CONFIG.num_tokens, CONFIG.channels).double()
    actions, levels = 8 * torch.randn(2, 9, 2).double(), torch.zeros(2, 9).double()
    actions[0, 4] = NAN

    outputs, _ = dynamics.trunk(latents, actions, levels, dynamics.initial_state(2))
    state = dynamics.initial_state(2)
    for t in range(9):
        context, state = dynamics.trunk.step(latents[:, t], actions[:, t], levels[:, t], state)
        torch.testing.assert_close(context, outputs[:, t])

    def flow(action: list[float]) -> torch.Tensor:
        picture = torch.zeros(2, 3, 32, 48).double()
        grid = (CONFIG.rows, CONFIG.columns)
        moved = dynamics.head.move(
            outputs[:, -1], latents[:, -1], latents[:, -2], still(2, grid, picture),
            picture, torch.tensor([action, action]).double(),
            lambda *_: (picture, latents[:, -1]),
        )  # fmt: skip
        return moved.flow

    assert not torch.equal(flow([8.0, 0.0]), flow([-8.0, 0.0]))


@pytest.mark.parametrize("axes", [(), (1.0,)])
def test_sound_and_objects_take_the_same_actions(axes: tuple[float, ...]) -> None:
    from worldsim.dynamics.objects import Objects, ObjectsConfig
    from worldsim.dynamics.sound import SoundDynamics, SoundDynamicsConfig

    count = 0 if axes else 8
    shape = (2, *((len(axes),) if axes else ()))
    sound = SoundDynamics(SoundDynamicsConfig(num_actions=count, axes=axes))
    objects = Objects(ObjectsConfig(), DynamicsConfig(num_actions=count, axes=axes))
    latent = torch.randn(2, 48, 48)

    for action in (torch.zeros(shape), torch.full(shape, sound.unknown_action)):
        told = sound.told(action)
        features, _ = sound.step(torch.zeros(2, 12), latent, told, sound.initial_state(2), None)
        slots = objects.step(objects.initial_state(2), latent, objects.told(action), latent)
        assert features.isfinite().all() and slots.isfinite().all()
