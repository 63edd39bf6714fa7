"""How long until there is something to see? From the start of a process to its first frame.

Every sample is a process of its own, started anew: one that imports torch, one that also imports
worldsim's engine, one that loads a world and shows a frame. They take turns, so that a busy moment
hits all of them. Files that were read before are in the system's cache, except perhaps in the
first round, which is why that round is given by itself. Run it with `worldsim bench cold`.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from worldsim.benchmarks.timing import environment, percentiles
from worldsim.errors import MachineError

LONGEST = 300.0  # seconds until a process is given up
PREPARE = "from worldsim.runtime import prepare\nprepare(threads=1)\n"
PROGRAMS = {
    "python": "",
    "torch": "import torch",
    "worldsim": "import worldsim\nworldsim.World",  # the engine is imported when it is asked for
    "first_frame": PREPARE
    + "import sys\nimport worldsim\n"
    + "world = worldsim.World.load(sys.argv[1])\n"
    + "state, out = world.step(world.reset(seed=0), 0)\n"
    + "assert out.frame.any()",
}
IMPORTS = ("python", "torch", "worldsim")
DONE = "\nprint(flush=True)"  # the moment that counts: leaving takes time as well


def measure_cold(
    world: str, *, runs: int, start: Callable[[str, str], float] | None = None
) -> dict[str, object]:
    """Start every program `runs` times; JSON-ready. MachineError if one of them fails.

    `start` (program, world) -> seconds replaces the process in tests. ValueError unless `runs` is
    at least 1.
    """
    if runs < 1:
        raise ValueError(f"runs must be >= 1, got {runs}")
    once = start or _start
    samples: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for _ in range(runs):
        for name, program in PROGRAMS.items():
            samples[name].append(1e3 * once(program + DONE, world))
    beyond = [a - b for a, b in zip(samples["worldsim"], samples["torch"], strict=True)]
    return {
        "first_frame_ms": percentiles(samples["first_frame"]),
        "first_round_ms": {name: round(found[0], 1) for name, found in samples.items()},
        "import_beyond_torch_ms": round(statistics.median(beyond), 1),
        "imports_ms": {name: percentiles(samples[name]) for name in IMPORTS},
        "runs": runs,
        "world": world,
        "env": environment(),
    }


def _start(program: str, world: str) -> float:
    """Seconds from the start of a process to its line on stdout."""
    begun = time.perf_counter()
    command = [sys.executable, "-c", program, world]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        seconds = time.perf_counter() - begun
        try:
            _, said = process.communicate(timeout=LONGEST)
        except subprocess.TimeoutExpired as error:
            process.kill()
            raise MachineError(f"a process did not end within {LONGEST:g} s") from error
    if not line or process.returncode:
        lines = said.decode("utf-8", "replace").strip().splitlines()
        raise MachineError(f"a fresh process failed: {lines[-1] if lines else 'no message'}")
    return seconds
