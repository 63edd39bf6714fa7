"""Does the picture move as far as the player does? Grades a world at several gains of its flow.

    python -m worldsim.benchmarks.gain doom-hall held-out --gains 1,1.12,1.25

The mover learns from moved pictures. Where a wall sparkles, moving it by a part of a pixel makes
the loss worse even if that is where it went, so it learns to move too little. `gain`, a number in
the world's config.json, multiplies what it says (docs/decisions/0024). Choose it on recordings that
the world was not trained on, and not on those that `eval` is to grade it on.

Graded on the deterministic prediction: CFR(4), G(1), G(4) (see `worldsim eval`).
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from worldsim.errors import DataError
from worldsim.evaluation import control, fidelity
from worldsim.evaluation.counterfactual import branch
from worldsim.evaluation.footage import load_library
from worldsim.evaluation.intervals import Graded, Measure, Missing
from worldsim.evaluation.plan import plan_of
from worldsim.evaluation.predictors import WorldPredictor
from worldsim.evaluation.study import branch_points
from worldsim.runtime import prepare
from worldsim.training.say import say
from worldsim.world import World


def measure_gains(
    world: World, data: Path, gains: Sequence[float], *, states: int, windows: int
) -> dict[str, dict[str, Graded]]:
    """CFR(4), G(1) and G(4) at each of `gains`, on the same moments of the recordings in `data`.

    Raises DataError if these have no side files or cannot be read.
    """
    plan = replace(plan_of("standard"), states=states, windows=windows)
    library = load_library(data, world.frame_size, max_frames=plan.max_frames, log=say)
    if not library.has_controls:
        raise DataError(f"{data}: no side files, so nobody knows what was pressed")
    moments = library.windows(
        context=plan.context, horizon=max(fidelity.GAINS), count=windows, seed=1
    )
    branches = branch(library, branch_points(library, plan), say)
    found = {}
    for gain in gains:
        say(f"gain {gain:g}")
        with moving(world, gain):
            player = WorldPredictor(world, library.controls, exact=True)
            row: dict[str, Measure | Missing] = {
                "cfr4": control.retrieval(player, branches, plan.batch)
            }
            measured = fidelity.gains(player, moments, plan.batch)
        row |= {key: measured[key] for key in ("g1", "g4")}
        found[f"{gain:g}"] = {key: measure.graded() for key, measure in row.items()}
    return found


@contextmanager
def moving(world: World, gain: float) -> Iterator[None]:
    """Within, `world` moves its pictures by `gain` times what its mover says."""
    mover = world._model.dynamics.head.mover
    before = mover.config
    mover.config = replace(before, gain=gain)
    try:
        yield
    finally:
        mover.config = before


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("world", help="name or folder of the world")
    parser.add_argument("data", type=Path, help="folder of recordings with side files")
    parser.add_argument("--gains", default="1,1.06,1.12,1.18,1.25", help="separated by commas")
    parser.add_argument("--states", type=int, default=100, help="game states to branch from")
    parser.add_argument("--windows", type=int, default=96, help="rollouts for the gains in dB")
    parser.add_argument("--json", type=Path, help="file for the result")
    chosen = parser.parse_args()
    prepare(threads=1)
    gains = [float(part) for part in chosen.gains.split(",")]
    found = measure_gains(
        World.load(chosen.world), chosen.data, gains, states=chosen.states, windows=chosen.windows
    )
    line = json.dumps({"world": chosen.world, "gains": found})
    if chosen.json:
        chosen.json.write_text(line + "\n")
    print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
