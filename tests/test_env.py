"""A world as a Gymnasium environment: the checker is content, seeds decide, batches do not leak."""

import warnings
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from worldsim.env import WorldEnv, WorldVectorEnv

if TYPE_CHECKING:
    from worldsim.world import World


@dataclass(frozen=True)
class CounterState:
    """Per player: its seed, and the sum of its actions so far."""

    seeds: tuple[int, ...]
    sums: tuple[int, ...]

    @staticmethod
    def stack(states: list["CounterState"]) -> "CounterState":
        seeds = tuple(seed for state in states for seed in state.seeds)
        return CounterState(seeds, tuple(value for state in states for value in state.sums))

    def select(self, row: int) -> "CounterState":
        return replace(self, seeds=self.seeds[row : row + 1], sums=self.sums[row : row + 1])


class CounterWorld:
    """Shows its seed and the sum of its actions as grey levels; counts forwards."""

    frame_size, fps, num_actions = (6, 8), 35.0, 8

    idle_action, axes = 0, ()

    def __init__(self) -> None:
        self.forwards = 0

    def reset(self, frames: Any = None, seed: Any = 0, batch: int = 1) -> CounterState:
        seeds = (seed,) * batch if isinstance(seed, int) else tuple(seed)
        assert len(seeds) == batch
        return CounterState(seeds, (0,) * batch)

    def step(self, state: CounterState, action: Any) -> tuple[CounterState, Any]:
        self.forwards += 1
        actions = np.broadcast_to(np.asarray(action), len(state.sums))
        sums = tuple(int(s + a) for s, a in zip(state.sums, actions, strict=True))
        frames = np.zeros((len(sums), 6, 8, 3), dtype=np.uint8)
        for i, (seed, total) in enumerate(zip(state.seeds, sums, strict=True)):
            frames[i, 0, 0] = seed % 256
            frames[i, 0, 1] = total % 256
        return replace(state, sums=sums), SimpleNamespace(
            frame=frames, timing={"head_ms": self.forwards}
        )


def world() -> "World":
    return cast("World", CounterWorld())


def test_the_checker_has_nothing_to_say() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(WorldEnv(world(), render_mode="rgb_array"))


def test_the_seed_decides_the_rollout() -> None:
    env = WorldEnv(world())

    first = [env.reset(seed=3)[0], *(env.step(np.int64(a))[0] for a in (1, 2, 5))]
    again = [env.reset(seed=3)[0], *(env.step(np.int64(a))[0] for a in (1, 2, 5))]
    other, _ = env.reset(seed=4)

    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other)


def test_an_episode_is_cut_after_max_steps() -> None:
    env = WorldEnv(world(), max_steps=3)
    env.reset(seed=0)

    ends = [env.step(np.int64(0))[2:4] for _ in range(3)]

    assert ends == [(False, False), (False, False), (False, True)]


def test_render_shows_the_last_frame_and_timing_the_stages() -> None:
    env = WorldEnv(world(), render_mode="rgb_array")
    env.reset(seed=0)

    frame, reward, _, _, info = env.step(np.int64(7))

    assert np.array_equal(cast(Any, env.render()), frame)
    assert reward == 0.0
    assert info == {}
    assert env.timing == {"head_ms": 2}
    assert env.metadata["render_fps"] == 35.0


def test_stepping_before_reset_is_refused() -> None:
    with pytest.raises(RuntimeError, match="reset"):
        WorldEnv(world()).step(np.int64(0))


def test_an_action_reaches_the_world_as_it_is() -> None:
    """World.step refuses what is no action; rounded before, it would be one."""
    env, seen = WorldEnv(world()), list[Any]()
    env.reset(seed=0)
    step = env.world.step

    def watched(state: Any, action: Any) -> Any:
        seen.append(action)
        return step(state, 0)

    env.world.step = watched  # type: ignore[method-assign, assignment]
    env.step(1.9)

    assert seen == [1.9]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"max_steps": 0}, "max_steps must be >= 1"), ({"render_mode": "human"}, "render_mode must")],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WorldEnv(world(), **options)


def test_a_batch_is_one_forward_and_equals_single_players() -> None:
    shared = CounterWorld()
    batch = WorldVectorEnv(cast("World", shared), num_envs=3)
    actions = np.array([[1, 2, 3], [4, 5, 6]])

    frames, _ = batch.reset(seed=10)
    steps = [frames, *(batch.step(row)[0] for row in actions)]

    assert shared.forwards == 3
    for player in range(3):
        single = WorldEnv(world())
        expected = [single.reset(seed=10 + player)[0]]
        expected += [single.step(row[player])[0] for row in actions]
        for got, want in zip(steps, expected, strict=True):
            assert np.array_equal(got[player], want)


def test_the_vector_env_fits_its_spaces_and_resets_on_the_next_step() -> None:
    batch = WorldVectorEnv(world(), num_envs=2, max_steps=2)
    batch.action_space.seed(0)

    frames, _ = batch.reset(seed=[5, None])
    assert frames in batch.observation_space
    assert batch.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    batch.step(np.array([3, 3]))
    frames, rewards, _, cut, info = batch.step(np.array([3, 3]))
    assert cut.tolist() == [True, True]
    assert frames[:, 0, 1, 0].tolist() == [6, 6]
    frames, rewards, dead, cut, info = batch.step(np.array([3, 3]))

    assert frames[:, 0, 1, 0].tolist() == [0, 0]
    assert cut.tolist() == dead.tolist() == [False, False]
    assert rewards.tolist() == [0.0, 0.0]
    assert info == {}
    assert set(batch.timing) == {"head_ms"}


def test_actions_of_another_shape_are_refused() -> None:
    batch = WorldVectorEnv(world(), num_envs=2)
    batch.reset(seed=0)

    with pytest.raises(ValueError, match=r"shape \(2,\)"):
        batch.step(np.array([1, 2, 3]))


def test_wrappers_of_gymnasium_take_it() -> None:
    env = gymnasium.wrappers.TimeLimit(WorldEnv(world()), max_episode_steps=2)
    env.reset(seed=0)
    env.step(np.int64(1))

    assert env.step(np.int64(1))[3]
