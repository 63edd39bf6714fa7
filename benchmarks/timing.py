"""Shared by the benchmarks: percentiles that show tails, and the conditions they were taken under.

Percentiles are exact, over the pooled samples of one run; a mean never appears.
"""

import os
import platform
import statistics
from collections.abc import Sequence
from importlib.metadata import version

from worldsim.doctor import available_cores, cpu_name


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


def environment() -> dict[str, object]:
    """Conditions that a figure cannot be compared without. torch has to be imported already."""
    import torch

    return {
        "cpu": cpu_name(),
        "cores": available_cores(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "threads": torch.get_num_threads(),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "worldsim": version("worldsim-engine"),
    }


def table(title: str, rows: dict[str, dict[str, float]]) -> str:
    """Rows of percentiles for people."""
    lines = [f"{title:<26} {'p50':>8} {'p95':>8} {'p99':>8} {'max':>8}   ms"]
    for name, row in rows.items():
        numbers = " ".join(f"{row[key]:8.2f}" for key in ("p50", "p95", "p99", "max"))
        lines.append(f"{name:<26} {numbers}")
    return "\n".join(lines)
