"""An old world against a young one, and the twins with attention."""

from typing import TYPE_CHECKING, Any, cast

import pytest
import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from worldsim.benchmarks import context, gpu, twins
from worldsim.benchmarks.timing import percentiles, ratio_of_medians
from worldsim.dynamics import DynamicsConfig
from worldsim.dynamics.trunk import Trunk
from worldsim.training.presets import PRESETS

if TYPE_CHECKING:
    from worldsim.world import World

SMALL = DynamicsConfig(rows=2, columns=3, channels=8, width=32, heads=4, state_size=8)


def test_the_ratio_is_of_medians_and_a_stall_shows_in_the_tail_alone() -> None:
    young = [10.0 + 0.1 * (i % 7) for i in range(500)]
    old = [1.1 * ms for ms in young]
    stalled = [ms + 500.0 * (i == 250) for i, ms in enumerate(old)]

    calm, found = ratio_of_medians(old, young), ratio_of_medians(stalled, young)

    assert calm["value"] == pytest.approx(1.1, abs=1e-4)
    assert calm["lo"] <= calm["value"] <= calm["hi"]
    assert found["value"] == calm["value"]
    assert percentiles(stalled)["max"] > 500
    with pytest.raises(ValueError, match="equal length"):
        ratio_of_medians(old, young[1:])


def test_what_slows_one_series_down_widens_and_moves_the_interval() -> None:
    generator = torch.Generator().manual_seed(0)
    young = (10 + torch.rand(500, generator=generator)).tolist()
    same = (10 + torch.rand(500, generator=generator)).tolist()

    assert ratio_of_medians(same, young)["hi"] < 1.05
    assert ratio_of_medians([1.2 * ms for ms in same], young)["lo"] > 1.05


def test_twins_have_as_many_parameters() -> None:
    for config in (DynamicsConfig(), SMALL):
        ours, theirs = twins.size(Trunk(config)), twins.size(twins.attention_trunk(config))

        one_hidden_unit = 2 * config.width + 1
        assert abs(theirs - ours) <= config.trunk_layers * one_hidden_unit / 2


@torch.inference_mode()
def test_attention_with_a_cache_is_attention_without() -> None:
    torch.manual_seed(0)
    attention = twins.TemporalAttention(16, 2).double()
    x = torch.randn(3, 9, 16).double()
    q, k, v = attention.read(x).view(3, 9, 3, 2, 8).permute(2, 0, 3, 1, 4)
    q, k = (torch.stack([twins.rotate(part[:, :, t], t) for t in range(9)], 2) for part in (q, k))
    room = [torch.zeros(3, 2, 9, 8).double() for _ in range(2)]
    cache = twins.Cache(room[0], room[1], 0)

    for t in range(9):
        y, cache = attention.step(x[:, t], cache)
        wanted = F.scaled_dot_product_attention(
            q[:, :, t : t + 1], k[:, :, : t + 1], v[:, :, : t + 1]
        )
        torch.testing.assert_close(y, attention.write(wanted.flatten(1)))


@torch.inference_mode()
def test_a_window_forgets_what_is_older() -> None:
    torch.manual_seed(0)
    trunk = twins.attention_trunk(SMALL)
    state = twins.filled(trunk, 50, 4)
    cache = cast(Any, state.memory[0])

    # keys and values, ticks, places, width, bytes of a number
    assert cache.num_bytes == 2 * 4 * SMALL.num_places * 32 * 4
    trunk.step(torch.randn(1, 6, 8), torch.zeros(1).long(), torch.zeros(1), state)


@torch.no_grad()
def test_counted_operations_are_those_that_torch_counts() -> None:
    c = SMALL
    cache = cast(Any, twins.filled(twins.attention_trunk(c), 99, 200).memory[0])
    attention = twins.TemporalAttention(c.width, c.heads)
    x = torch.randn(c.num_places, c.width)

    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        attention.step(x, cache)

    assert counter.get_total_flops() == c.num_places * context.attention_flops(c, 100)


def test_the_share_of_operations_falls_with_the_horizon() -> None:
    short, long = (context.flops_ratios(DynamicsConfig(), n) for n in (100, 7200))

    assert long[""] < 0.1 < short[""]
    assert long["_without_projections"] < long[""]
    assert long["_joint"] < long["_without_projections"]


def test_memory_counts_what_a_view_keeps_alive() -> None:
    world = gpu.random_world(gpu.shrunken(PRESETS["base"]), "w", "cpu")
    state = gpu.Lowered(world).reset()
    past = torch.zeros(1000, *state.latent.shape[1:])
    past[-1:] = state.latent
    hoarding = type(state)(**state.tensors() | {"latent": past[-1:]})

    grown = context.state_bytes(hoarding) - context.state_bytes(state)

    assert grown >= 999 * state.latent.nbytes - state.latent.nbytes


def test_both_states_are_really_played() -> None:
    played: list[int] = []

    class Watched(gpu.Lowered):
        @property
        def config(self) -> Any:
            return self._world.config

        def step(self, state: Any, action: int, **kwargs: Any) -> Any:
            played.append(int(state.tick[0]))
            return self._world.step(state, action, **kwargs)

    world = Watched(gpu.random_world(gpu.shrunken(PRESETS["base"]), "w", "cpu"))
    for module in world._world._model.modules():
        module.float()

    found = cast(
        dict[str, Any],
        context.measure_context(cast("World", world), frames=130, timed=4, lengths=(5, 9)),
    )

    assert played[:130] == list(range(130))
    assert {130, 131} <= set(played[130:]) and {100, 101} <= set(played[130:])
    assert found["memory_ratio"] == 1.0
    assert found["ratio_10000_100"]["n"] == 4
    assert [point["frames"] for point in found["twins"]] == [5, 9]
    assert found["twins"][1]["full_mb"] >= found["twins"][0]["full_mb"]
    with pytest.raises(ValueError, match="frames must be > 100"):
        context.measure_context(cast("World", world), frames=100)
