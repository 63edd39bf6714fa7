"""Which backend computes a world: opened by name, once, when the world is loaded.

`auto` is what `worldsim doctor --probe` found quickest on this machine, or torch. It builds
nothing: what is not in the cache is not used, and a line says so. A backend that is asked for by
name is built if it has to be, which takes its time.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import torch

from worldsim import doctor
from worldsim.backends import compiled, native, store
from worldsim.backends.compiled import Compiled
from worldsim.backends.cuda import Cuda
from worldsim.backends.names import BACKENDS
from worldsim.backends.parts import Parts, Runner
from worldsim.backends.updates import UpdateRunner
from worldsim.errors import MachineError
from worldsim.model import WorldModel

log = logging.getLogger("worldsim")


@dataclass(frozen=True)
class Bound:
    """How far a backend may be from torch. `share`: the length of a difference as a share of the
    length of what torch says (L2)."""

    part: float  # share, of any output of one part, once
    levels: float  # of 255: mean difference of a mean frame, a tick after the same state
    sampled: float  # the same of a sampled one
    memory: float  # share, after a game in which the same was remembered tick by tick


# float32 differs by the order of its sums, bfloat16 by its eight bits, and with them in what a
# sample decides where it is close
BOUNDS = {
    "native": Bound(part=1e-4, levels=0.05, sampled=0.05, memory=1e-3),
    "compiled": Bound(part=1e-3, levels=0.05, sampled=0.05, memory=1e-3),
    "cuda": Bound(part=1e-3, levels=0.05, sampled=0.05, memory=1e-3),
    "openvino": Bound(part=1e-3, levels=0.05, sampled=0.05, memory=1e-3),
    "openvino-bf16": Bound(part=3e-2, levels=1.5, sampled=inf, memory=1e-3),
}


def open_parts(model: WorldModel, *, backend: str, world_hash: str, device: str) -> Parts:
    """The parts of a world, computed by `backend` ("auto" or one of BACKENDS); on a GPU auto is the
    one that there is for it.

    If it cannot be had, or its numbers are not those of torch, torch computes, and one line in the
    log says why.
    """
    if backend not in ("auto", *BACKENDS):
        known = ", ".join(("auto", *BACKENDS))
        raise ValueError(f"backend must be one of {known}, got {backend!r}")
    plain = Parts(model)
    on_gpu = device.startswith("cuda")
    name, may_build = (backend, True) if backend != "auto" else (chosen(), False)
    if backend == "auto" and on_gpu:
        name = "cuda"
    if name == "torch":
        return plain
    try:
        if (name == "cuda") != on_gpu:
            raise MachineError(f"it does not compute on {device}")
        runner = open_runner(name, plain, world_hash, may_build=may_build)
        parts = Parts(model, runner, log.warning)
        runner.prepare(1)
        worst = disagreement(plain, runner)
        if not worst <= BOUNDS[name].part:
            raise MachineError(f"its numbers differ from torch by {worst:.1e} of their length")
    except Exception as error:  # a missing package, a driver, a damaged cache: torch can do it
        log.warning("backend %s cannot be used, torch is: %s", name, _first_line(error))
        return plain
    return parts


def chosen() -> str:
    """What the last probe found quickest here, torch if it found nothing or is out of date."""
    probe: dict[str, Any] = doctor.cached_probe() or {}
    found = probe.get("backends")
    if not isinstance(found, dict) or found.get("choice") not in BACKENDS:
        return "torch"
    if found.get("fingerprint") != store.fingerprint():
        log.warning("the probe is of another version or machine: `worldsim doctor --probe` again")
        return "torch"
    return str(found["choice"])


def open_runner(name: str, plain: Parts, world_hash: str, *, may_build: bool) -> Runner:
    """A backend from what the cache holds; what is missing there is built, or MachineError."""

    def files(key: str, build: Callable[[], dict[str, bytes]]) -> dict[str, Path]:
        folder = store.folder(world_hash, key)
        paths = store.verified(folder)
        if paths is None and not may_build:
            raise MachineError("not built for this world yet: `worldsim doctor --probe` builds it")
        if paths is None:
            store.save(folder, build())
            paths = store.verified(folder)
        assert paths is not None, "it was just written"
        return paths

    match name:
        case "native":
            library = files(name, native.build)[native.LIBRARY]
            return UpdateRunner(name, plain.model, native.NativeUpdate(library))
        case "compiled":
            return Compiled(files(name, lambda: compiled.build(plain.modules, plain.example(1))))
        case "cuda":
            return Cuda(plain)
    try:
        from worldsim.backends import openvino
    except ImportError as error:
        raise MachineError("install it: pip install 'worldsim-engine[openvino]'") from error
    paths = files("openvino", lambda: openvino.build(plain.modules, plain.example(1)))
    return openvino.Openvino(name, paths)


def is_possible(name: str) -> bool:
    """Whether it is worth a try here: what it needs is installed."""
    match name:
        case "native" | "compiled":
            return native.compiler() is not None
        case "openvino" | "openvino-bf16":
            return doctor.installed("openvino") is not None
        case "cuda":
            return torch.cuda.is_available()
    return True


@torch.inference_mode()
def disagreement(plain: Parts, runner: Runner) -> float:
    """How far a backend is from torch: the worst of all outputs of all parts in one call, the
    length of the difference as a share of the output's (L2)."""
    worst = 0.0
    for part, example in plain.example(1).items():
        inputs = tuple(x.to(plain.device) for x in example)
        found = runner.run(part, inputs)
        if found is None:
            continue
        for got, wanted in zip(found, plain.run(part, *inputs), strict=True):
            apart = (got.double() - wanted.double()).norm() / wanted.double().norm()
            worst = max(worst, apart.item() if apart.isfinite() else float("inf"))
    return worst


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
