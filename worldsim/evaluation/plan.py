"""How much is measured: the three tiers, smaller and larger versions of one protocol."""

from dataclasses import dataclass
from typing import Literal

Tier = Literal["smoke", "standard", "full"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Counts of one tier. Horizons are the same in all of them, so that the keys mean the same."""

    context: int = 48  # frames a world sees before it has to go on by itself
    batch: int = 8  # rollouts that run in one forward; on a CPU more are slower, not faster
    max_frames: int  # frames of footage read
    windows: int  # rollouts of 64 frames for the gains
    states: int  # game states that counterfactuals branch from
    state_tics: (
        int  # branch points lie at most this many tics into an episode (replaying takes time)
    )
    motion_windows: int  # rollouts of 256 frames
    survivors: int  # rollouts of 1024 frames
    trips: int = 2  # to each distance: away and back
    long_rollouts: int = 1  # of 7200 frames


def plan_of(tier: Tier) -> Plan:
    """Smoke takes at most a minute on two cores, standard 15, full 90."""
    if tier == "smoke":
        return Plan(
            context=32,
            max_frames=4_000,
            windows=6,
            states=3,
            state_tics=400,
            motion_windows=2,
            survivors=2,
        )
    if tier == "standard":
        return Plan(
            max_frames=60_000,
            windows=96,
            states=64,
            state_tics=1_500,
            motion_windows=24,
            survivors=24,
            trips=24,
            long_rollouts=6,
        )
    return Plan(
        max_frames=120_000,
        windows=384,
        states=160,
        state_tics=2_500,
        motion_windows=64,
        survivors=64,
        trips=96,
        long_rollouts=32,
    )
