"""Shared by the benchmarks: percentiles that show tails, and the conditions they were taken under.

Percentiles are exact, over the pooled samples of one run; a mean never appears.
"""

import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from worldsim.doctor import cpu_name
from worldsim.runtime import available_cores

BLOCK = 25  # samples in a row that are drawn together: neighbours share what disturbs them
RESAMPLES = 2000


def percentiles(milliseconds: Sequence[float]) -> dict[str, float]:
    """p50, p95, p99 and max of at least one sample, in ms."""
    if len(milliseconds) == 1:
        return dict.fromkeys(("p50", "p95", "p99", "max"), round(milliseconds[0], 3))
    cuts = statistics.quantiles(milliseconds, n=100, method="inclusive")
    found = {"p50": cuts[49], "p95": cuts[94], "p99": cuts[98], "max": max(milliseconds)}
    return {name: round(value, 3) for name, value in found.items()}


def summary(milliseconds: Sequence[float], *, budget_ms: float) -> dict[str, float | int]:
    """The common keys of every latency report: percentiles, and what came too late."""
    late = sum(sample > budget_ms for sample in milliseconds)
    named = {f"{name}_ms": value for name, value in percentiles(milliseconds).items()}
    return {
        **named,
        "missed": late,
        "missed_fraction": late / len(milliseconds),
        "frames": len(milliseconds),
        "budget_ms": round(budget_ms, 3),
    }


def ratio_of_medians(above: Sequence[float], below: Sequence[float]) -> dict[str, float | int]:
    """Median over median of two series taken side by side, with a 95 % interval.

    Percentile bootstrap over blocks of BLOCK neighbours, the same ones of both series, since what
    slows a machine down lasts longer than a sample. ValueError if there are none, or not as many
    of one as of the other.
    """
    if not above or len(above) != len(below):
        raise ValueError(f"two series of equal length are needed, got {len(above)}, {len(below)}")
    pairs = np.stack([np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)])
    starts = np.arange(0, len(above), BLOCK)
    blocks = [pairs[:, start : start + BLOCK] for start in starts]
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(RESAMPLES):
        drawn = np.concatenate([blocks[i] for i in rng.integers(len(blocks), size=len(blocks))], 1)
        medians = np.median(drawn, axis=1)
        draws.append(medians[0] / medians[1])
    medians = np.median(pairs, axis=1)
    low, high = np.percentile(draws, (2.5, 97.5))
    return {
        "value": round(float(medians[0] / medians[1]), 4),
        "lo": round(float(low), 4),
        "hi": round(float(high), 4),
        "n": len(above),
    }


def commit() -> str | None:
    """The commit of a checkout, with a plus sign if files were changed since; None elsewhere."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--exclude=*"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def environment() -> dict[str, object]:
    """Conditions that a figure cannot be compared without. torch has to be imported already."""
    import torch

    gpus = range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
    return {
        "cpu": cpu_name(),
        "cores": available_cores(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "threads": torch.get_num_threads(),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "worldsim": version("worldsim-engine"),
        "commit": commit(),
        "gpus": [torch.cuda.get_device_name(i) for i in gpus],
    }


def table(title: str, rows: dict[str, dict[str, float]]) -> str:
    """Rows of percentiles for people."""
    lines = [f"{title:<26} {'p50':>8} {'p95':>8} {'p99':>8} {'max':>8}   ms"]
    for name, row in rows.items():
        numbers = " ".join(f"{row[key]:8.2f}" for key in ("p50", "p95", "p99", "max"))
        lines.append(f"{name:<26} {numbers}")
    return "\n".join(lines)
