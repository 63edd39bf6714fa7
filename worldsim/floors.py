"""What a device can do at best: matrix products and memory traffic, measured, not quoted."""

import statistics
import time
from collections.abc import Callable

import torch

SIDE = {"cpu": 1024, "cuda": 8192}  # of the square matrices
COPIED = {"cpu": 128 * 2**20, "cuda": 2**31}  # bytes: far more than any cache holds
SECONDS = 1.0  # per figure
LEAST = 5  # samples


def measure_floors(device: str) -> dict[str, float]:
    """Best matrix products in float32 and bfloat16, GFLOP/s, and best copy, GB/s (read + written),
    of `device` with the threads that torch has now."""
    kind = torch.device(device).type
    side, size = SIDE[kind], COPIED[kind]
    found = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        out = torch.empty_like(a)
        fastest = best(lambda a=a, b=b, out=out: torch.mm(a, b, out=out), device)  # type: ignore[misc]
        found[f"{name}_gflops"] = round(2 * side**3 / fastest / 1e9, 1)
    source = torch.ones(size // 4, device=device)
    target = torch.empty_like(source)
    found["copy_gb_per_s"] = round(2 * size / best(lambda: target.copy_(source), device) / 1e9, 2)
    return found


def measure_peak(device: torch.device, precision: torch.dtype) -> float:
    """Best matrix products of `device` in `precision`, operations per second, in a fifth of a
    second."""
    side = SIDE[device.type]
    a, b = (torch.ones(side, side, device=device, dtype=precision) for _ in range(2))
    out = torch.empty_like(a)
    found = samples(lambda: torch.mm(a, b, out=out), str(device), SECONDS / 5)
    return 2.0 * side**3 / min(found)


def best(work: Callable[[], object], device: str) -> float:
    """Seconds of the fastest of many runs of `work`, which nothing disturbed."""
    return min(samples(work, device, SECONDS))


def samples(work: Callable[[], object], device: str, seconds: float) -> list[float]:
    """Seconds of each run of `work`, after a first one, for about `seconds` and at least LEAST."""
    is_cuda = torch.device(device).type == "cuda"

    def wait() -> None:
        if is_cuda:
            torch.cuda.synchronize()

    work()
    wait()
    found: list[float] = []
    end = time.perf_counter() + seconds
    while len(found) < LEAST or time.perf_counter() < end:
        begun = time.perf_counter()
        work()
        wait()
        found.append(time.perf_counter() - begun)
    return found


def median_ms(work: Callable[[], object], device: str, seconds: float) -> float:
    """Median time of `work`."""
    return 1e3 * statistics.median(samples(work, device, seconds))
