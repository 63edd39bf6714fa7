"""How long a tick takes, and what follows: how many may play, and with how many flow steps.

Measured once at start-up per size of batch; a single factor, followed from tick to tick, says by
how much the machine is slower at the moment. So what was last done with four steps years ago is
still known when two have been in use since.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worldsim.state import WorldState
    from worldsim.world import World

STEPS = (1, 2, 4)  # flow steps, cheapest first
BUSY = 0.8  # share of a period that the ticks of a full server may take
FOLLOW = 1.05  # by how much a tick moves the factor, up or down: it settles at the median
MEASURED_TICKS = 6  # of each kind, at the start
WORTH_IT = 0.05  # share of a tick that fewer flow steps must save, or they only cost quality


@dataclass(frozen=True)
class Cost:
    """Seconds of one tick, and those of them that go into one flow step."""

    tick: float
    step: float


def size_of_batch(players: int) -> int:
    """The rows that `players` are computed in: the next power of two."""
    assert players > 0
    return 1 << (players - 1).bit_length()


def time_tick(world: "World", state: "WorldState", steps: int) -> float:
    """Seconds of a tick: the second best of a few, so neither luck nor a disturbance."""
    ticks = []
    for _ in range(MEASURED_TICKS):
        began = time.perf_counter()
        state, _ = world.step(state, world.idle_action, flow_steps=steps)
        ticks.append(time.perf_counter() - began)
    return sorted(ticks)[1]


def measure(world: "World", state: "WorldState", steps: int) -> Cost:
    """What a tick from `state` with `steps` flow steps costs here."""
    fewest, most = STEPS[0], STEPS[-1]
    tick, cheap, dear = (time_tick(world, state, k) for k in (steps, fewest, most))
    return Cost(tick, max(0.0, dear - cheap) / (most - fewest))


class Costs:
    """What ticks cost on this machine."""

    def __init__(self, measured: Mapping[int, Cost], flow_steps: int) -> None:
        """`measured`: per size of batch (1, 2, 4, ...), with `flow_steps` steps."""
        self._measured = dict(measured)
        self._flow_steps = flow_steps
        self.slowdown = 1.0

    def tick(self, players: int, steps: int) -> float:
        """Seconds that a tick of so many players takes now; at most as many as were measured."""
        size = min(size_of_batch(players), max(self._measured))
        cost = self._measured[size]
        base = cost.tick + (steps - self._flow_steps) * cost.step
        return self.slowdown * max(base, 0.1 * cost.tick)

    def note(self, expected: float, seconds: float) -> None:
        """A tick of which `tick` said `expected` took `seconds`."""
        self.slowdown *= FOLLOW if seconds > expected else 1.0 / FOLLOW
        self.slowdown = min(max(self.slowdown, 0.1), 100.0)

    def capacity(self, period: float) -> int:
        """How many can play at one tick per `period` seconds; 1 even if that is one too many."""
        fitting = [n for n, cost in self._measured.items() if cost.tick <= BUSY * period]
        return max(fitting, default=1)

    def plan(self, wishes: Sequence[int], left: float) -> dict[int, int]:
        """Wished flow steps -> those that `left` seconds allow, for players who share the ticks.

        The dearest wish gives way first, as long as that saves anything. Even if it is not enough,
        it is what can be done.
        """
        granted = {wish: wish for wish in wishes}
        needed = self._all(granted, wishes)
        while needed > left and max(granted.values()) > STEPS[0]:
            lower = STEPS[STEPS.index(max(granted.values())) - 1]
            cheaper = {wish: min(k, lower) for wish, k in granted.items()}
            less = self._all(cheaper, wishes)
            if less > (1.0 - WORTH_IT) * needed:
                break
            granted, needed = cheaper, less
        return granted

    def _all(self, granted: Mapping[int, int], wishes: Sequence[int]) -> float:
        """Seconds of a tick of everybody; those with the same number of steps share a batch."""
        steps = [granted[wish] for wish in wishes]
        return sum(self.tick(steps.count(k), k) for k in set(steps))


class Pace:
    """Chooses the flow steps of every tick of one game, so that it ends in time."""

    def __init__(self, cost: Cost, most: int) -> None:
        """`cost` of a tick with `most` flow steps, which are taken while there is time."""
        self._costs, self._most = Costs({1: cost}, most), most

    def steps(self, left: float) -> int:
        """The flow steps that `left` seconds allow."""
        return self._costs.plan([self._most], left)[self._most]

    def note(self, steps: int, seconds: float) -> None:
        """A tick with so many flow steps took so long."""
        self._costs.note(self._costs.tick(1, steps), seconds)
