"""The moments that everything is graded on, chosen once, so that rows compare in pairs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from worldsim.errors import WorldsimError
from worldsim.evaluation.counterfactual import TURNS, Branches, branch
from worldsim.evaluation.drift import MOTION_FRAMES, flow_of_real
from worldsim.evaluation.fidelity import GAINS
from worldsim.evaluation.footage import Library, Window
from worldsim.evaluation.plan import Plan
from worldsim.evaluation.survival import SURVIVAL_FRAMES, Health, calibrate, long_controls

Log = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Study:
    """Windows, real branches and real statistics of one library under one plan."""

    library: Library
    plan: Plan
    gain_windows: list[Window]
    motion_windows: list[Window]
    real_flow: npt.NDArray[np.float64]  # (N,) of the motion windows
    survivors: list[Window]
    survivor_controls: npt.NDArray[np.int64]  # (N, SURVIVAL_FRAMES)
    real_survivors: list[Window]  # windows with as many real frames after them
    branches: list[Branches]
    no_branches: str  # why there are none; empty when there are
    health: Health

    @property
    def noop(self) -> int | None:
        """The index of the control that does nothing, if the recordings name one."""
        names = self.library.controls
        return names.index("noop") if "noop" in names else None


def build_study(library: Library, plan: Plan, num_actions: int, log: Log) -> Study:
    """Choose windows, play the game's branches, and calibrate what real footage looks like.

    `num_actions` is what random controls are drawn from when no recording has a side file.
    """
    context = plan.context

    def pick(horizon: int, count: int, seed: int) -> list[Window]:
        return library.windows(context=context, horizon=horizon, count=count, seed=seed)

    known = library.has_controls
    survivors = pick(1, plan.survivors, seed=3)
    states = branch_points(library, plan) if known else []
    branches, why = _branches(library, states, log)
    log("describing real footage")
    moving = pick(MOTION_FRAMES, plan.motion_windows, seed=2) if known else []
    names = library.controls
    return Study(
        library=library,
        plan=plan,
        gain_windows=pick(max(GAINS), plan.windows, seed=1) if known else [],
        motion_windows=moving,
        real_flow=flow_of_real(moving),
        survivors=survivors,
        survivor_controls=long_controls(library, survivors, SURVIVAL_FRAMES, num_actions),
        real_survivors=pick(SURVIVAL_FRAMES, plan.survivors, seed=5) if known else [],
        branches=branches,
        no_branches=why,
        health=calibrate(library, names.index("noop") if "noop" in names else None),
    )


def branch_points(library: Library, plan: Plan) -> list[Window]:
    """Branch points: early enough to be replayed quickly, with half a second left to live."""
    margin = 24
    many = library.windows(context=plan.context, horizon=margin, count=20 * plan.states, seed=4)
    early = [w for w in many if w.now <= plan.state_tics]
    return early[: plan.states]


def _branches(library: Library, states: Sequence[Window], log: Log) -> tuple[list[Branches], str]:
    """The branches, or why there are none."""
    if not library.has_controls:
        return [], "the recordings have no side files, so the game cannot be replayed"
    if any(name not in library.controls for name in TURNS):
        return [], f"the recordings know no {' and '.join(TURNS)}"
    if not states:
        return [], "no clean moment early enough in an episode"
    try:
        return branch(library, states, log), ""
    except WorldsimError as error:
        return [], str(error)
