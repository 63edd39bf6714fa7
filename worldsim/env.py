"""A world as a Gymnasium environment, single or batched.

`reset(seed=...)` determines the whole rollout on a CPU (GPU kernels may differ in the last bit).
The first observation is the frame after one tick of doing nothing, because a world shows a frame
only in answer to an action. Reward is always 0: a world knows consequences, not goals. `info` is
empty, so that equal seeds give equal answers; the last tick's stage times, in ms, are `timing`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box, Discrete, Space
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

if TYPE_CHECKING:
    from worldsim.state import WorldState
    from worldsim.world import World

Frame = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

MAX_STEPS = 10_000
SEED_LIMIT = 2**31 - 1


class WorldEnv(gymnasium.Env[Frame, Any]):
    """One player in one world."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 35}  # noqa: RUF012  (Gymnasium's form)

    def __init__(
        self,
        world: "World | str" = "doom-hall",
        *,
        max_steps: int = MAX_STEPS,
        render_mode: str | None = None,
    ) -> None:
        """`world` is a loaded World, a name or a path; episodes are cut after `max_steps` ticks."""
        check_options(max_steps, render_mode, self.metadata["render_modes"])
        self.world = open_world(world)
        self.max_steps = max_steps
        self.render_mode = render_mode
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": self.world.fps}
        self.observation_space: Space[Frame] = frame_space(self.world)
        self.action_space: Space[Any] = action_space(self.world)
        self.spec = self._own_spec()
        self._state: WorldState | None = None
        self._frame: Frame | None = None
        self.timing: dict[str, float] = {}
        self._steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Frame, dict[str, Any]]:
        """A new rollout; the frame after one tick of the idle action. `options` are ignored."""
        super().reset(seed=seed)
        rollout_seed = int(self.np_random.integers(SEED_LIMIT))
        self._state = self.world.reset(seed=rollout_seed)
        self._steps = 0
        return self._tick(self.world.idle_action)

    def step(self, action: Any) -> tuple[Frame, float, bool, bool, dict[str, Any]]:
        """One tick. ValueError for an unknown action, RuntimeError before the first reset."""
        frame, info = self._tick(action)
        self._steps += 1
        return frame, 0.0, False, self._steps >= self.max_steps, info

    def render(self) -> Frame | None:
        """The frame last shown, uint8 (H, W, 3)."""
        return None if self._frame is None else self._frame.copy()

    def _tick(self, action: Any) -> tuple[Frame, dict[str, Any]]:
        if self._state is None:
            raise RuntimeError("call reset() before step()")
        self._state, out = self.world.step(self._state, action)
        self._frame = np.array(out.frame[0])
        self.timing = dict(out.timing)
        return self._frame.copy(), {}

    def _own_spec(self) -> EnvSpec:
        """How Gymnasium makes another one: around the same loaded world, which is never copied."""
        world, max_steps = self.world, self.max_steps

        def make(**options: Any) -> WorldEnv:
            return WorldEnv(world, max_steps=max_steps, **options)

        return EnvSpec(id="WorldSim/World-v0", entry_point=make)


class WorldVectorEnv(VectorEnv[Frame, npt.NDArray[Any], npt.NDArray[Any]]):
    """`num_envs` players in one world, advanced by one batched forward per step.

    A player whose episode was cut starts a new one on the next step (AutoresetMode.NEXT_STEP); the
    action given for that step is not used.
    """

    def __init__(
        self,
        world: "World | str" = "doom-hall",
        num_envs: int = 4,
        *,
        max_steps: int = MAX_STEPS,
        render_mode: str | None = None,
    ) -> None:
        """See WorldEnv; `num_envs` at least 1."""
        check_options(max_steps, render_mode, ["rgb_array"])
        if num_envs < 1:
            raise ValueError(f"num_envs must be >= 1, got {num_envs}")
        self.world = open_world(world)
        self.num_envs = num_envs
        self.max_steps = max_steps
        self.render_mode = render_mode
        self.metadata = {
            "render_modes": ["rgb_array"],
            "render_fps": self.world.fps,
            "autoreset_mode": AutoresetMode.NEXT_STEP,
        }
        self.single_observation_space = frame_space(self.world)
        self.single_action_space = action_space(self.world)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._players = [seeding.np_random()[0] for _ in range(num_envs)]
        self._state: WorldState | None = None
        self._frames: Frame | None = None
        self.timing: dict[str, float] = {}
        self._steps = np.zeros(num_envs, dtype=np.int64)
        self._done: Bools = np.zeros(num_envs, dtype=np.bool_)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Frame, dict[str, Any]]:
        """Start all players; with an int seed, player i plays WorldEnv.reset(seed=seed + i)."""
        seeds = self._seeds(seed)
        for i, own in enumerate(seeds):
            if own is not None:
                self._players[i] = seeding.np_random(own)[0]
        self._steps[:] = 0
        self._done[:] = False
        rollouts = [int(player.integers(SEED_LIMIT)) for player in self._players]
        self._state = self.world.reset(seed=rollouts, batch=self.num_envs)
        return self._tick(self._idle(self.num_envs))

    def step(self, actions: npt.NDArray[Any]) -> tuple[Frame, Floats, Bools, Bools, dict[str, Any]]:
        """One tick for everybody; ended episodes begin again instead."""
        if self._state is None:
            raise RuntimeError("call reset() before step()")
        chosen = np.array(actions, dtype=self.action_space.dtype)
        if chosen.shape != self.action_space.shape:
            raise ValueError(
                f"actions must have shape {self.action_space.shape}, got {chosen.shape}"
            )
        fresh = self._done.copy()
        if fresh.any():
            self._restart(fresh)
            chosen[fresh] = self._idle(int(fresh.sum()))
        frames, info = self._tick(chosen)
        self._steps = np.where(fresh, 0, self._steps + 1)
        self._done = self._steps >= self.max_steps
        nothing = np.zeros(self.num_envs, dtype=np.bool_)
        return frames, np.zeros(self.num_envs), nothing, self._done.copy(), info

    def render(self) -> tuple[Frame, ...] | None:
        """The frames last shown, one uint8 (H, W, 3) per player."""
        return None if self._frames is None else tuple(self._frames.copy())

    def _restart(self, fresh: Bools) -> None:
        """Give the players of `fresh` (num_envs,) a new start state."""
        assert self._state is not None, "step() has checked"
        seeds = [int(self._players[i].integers(SEED_LIMIT)) for i in np.flatnonzero(fresh).tolist()]
        started = self.world.reset(seed=seeds, batch=len(seeds))
        new = iter(range(len(seeds)))
        rows = [
            started.select(next(new)) if fresh[i] else self._state.select(i)
            for i in range(self.num_envs)
        ]
        self._state = type(self._state).stack(rows)

    def _tick(self, actions: npt.NDArray[Any]) -> tuple[Frame, dict[str, Any]]:
        assert self._state is not None, "reset() and step() have checked"
        self._state, out = self.world.step(self._state, actions)
        self._frames = np.array(out.frame)
        self.timing = dict(out.timing)
        return self._frames.copy(), {}

    def _idle(self, count: int) -> npt.NDArray[Any]:
        """Actions of `count` players who do nothing."""
        return np.array([self.world.idle_action] * count, dtype=self.action_space.dtype)

    def _seeds(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, int):
            return [seed + i for i in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ValueError(f"seed must name {self.num_envs} seeds, got {len(seed)}")
        return list(seed)


def open_world(world: "World | str") -> "World":
    """A loaded world as it is; a name or path is loaded (CheckpointError if it cannot be)."""
    if not isinstance(world, str):
        return world
    from worldsim.world import World

    return World.load(world)


def frame_space(world: "World") -> Space[Frame]:
    """Observations: uint8 (H, W, 3)."""
    height, width = world.frame_size
    return cast("Space[Frame]", Box(0, 255, (height, width, 3), np.uint8))


def action_space(world: "World") -> Space[Any]:
    """Actions: a code, or a vector with a float per axis."""
    if not world.axes:
        return Discrete(world.num_actions)
    low, high = (np.array([getattr(a, end) for a in world.axes]) for end in ("low", "high"))
    return Box(low, high, dtype=np.float64)


def check_options(max_steps: int, render_mode: str | None, modes: Sequence[str]) -> None:
    """ValueError for options that mean nothing."""
    if max_steps < 1:
        raise ValueError(f"max_steps must be >= 1, got {max_steps}")
    if render_mode is not None and render_mode not in modes:
        raise ValueError(f"render_mode must be one of {list(modes)} or None, got {render_mode!r}")
