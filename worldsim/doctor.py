"""What this machine can run, and what it lacks. Answers at once: nothing heavy is imported.

`report` only looks: package versions, cores, the sound library that games need, a display, the
worlds in the package, and the last probe. `probe` measures (and imports torch): a matrix product, a
convolution, and the default world's frame time with every backend, which it builds; the result is
kept in the cache folder, and `--backend auto` reads it.
"""

import ctypes.util
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from worldsim.runtime import available_cores

PACKAGES = {  # what each is for
    "torch": "needed",
    "numpy": "needed",
    "safetensors": "needed",
    "av": "needed",
    "websockets": "needed",
    "simplejpeg": "needed",
    "gymnasium": "needed",
    "pygame-ce": "window; extra [play]",
    "vizdoom": "recording games; extra [games]",
    "openvino": "quicker on a CPU; extra [openvino]",
    "mamba-ssm": "GPU kernels; extra [cuda]",
    "diffusers": "an oracle of tests; extra [diffusers]",
}
DEFAULT_WORLD = "doom-hall"
PROBE_TICKS = 250  # of every backend
FOLLOWED_TICKS = 60  # in which a backend has to say what torch says


def report() -> dict[str, object]:
    """Everything that can be said without measuring, JSON-ready."""
    return {
        "worldsim": version("worldsim-engine"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cores": available_cores(),
        "packages": {name: installed(name) for name in PACKAGES},
        "openal": has_openal(),
        "display": has_display(),
        "worlds": shipped_worlds(),
        "probe": cached_probe(),
    }


def problems(found: dict[str, object]) -> list[str]:
    """Sentences: what is missing in a report, and what to do about it."""
    packages = found["packages"]
    assert isinstance(packages, dict), "report() makes it one"
    lines = [
        f"{name} is not installed; install worldsim-engine again: pip install worldsim-engine"
        for name, purpose in PACKAGES.items()
        if purpose == "needed" and packages[name] is None
    ]
    if not found["worlds"]:
        lines.append("no world ships with this copy; `worldsim train` makes one")
    if packages["pygame-ce"] is None:
        lines.append("no window without pygame-ce: pip install 'worldsim-engine[play]'")
    elif not found["display"]:
        lines.append("no display: `worldsim play` runs headless and writes a clip")
    if packages["vizdoom"] is not None and not found["openal"]:
        lines.append("games need the sound library libopenal1 (Debian: apt-get install libopenal1)")
    if found["probe"] is None:
        lines.append("not measured yet: `worldsim doctor --probe` does it")
    return lines


def installed(name: str) -> str | None:
    """The version of a distribution, None when it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def cpu_name() -> str:
    """The processor's name, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def has_openal() -> bool:
    """Whether the OpenAL library can be loaded, without which games are silent."""
    if not sys.platform.startswith("linux"):
        return ctypes.util.find_library("openal") is not None
    try:  # quicker than find_library, which starts a compiler
        ctypes.CDLL("libopenal.so.1")
    except OSError:
        return False
    return True


def has_display() -> bool:
    """Whether a window could be opened."""
    if sys.platform.startswith(("win", "darwin")):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def shipped_worlds() -> list[str]:
    """Names of the worlds inside the package."""
    folder = Path(__file__).parent / "worlds"
    return sorted(path.parent.name for path in folder.glob("*/config.json"))


def cache_dir() -> Path:
    """The platform's cache folder for this program (not created here); XDG_CACHE_HOME moves it."""
    if asked := os.environ.get("XDG_CACHE_HOME"):
        base = Path(asked)
    elif sys.platform.startswith("win"):
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path.home() / ".cache"
    return base / "worldsim"


def cached_probe() -> dict[str, object] | None:
    """The last probe, None when there is none or it is damaged (it is only a cache)."""
    try:
        found = json.loads((cache_dir() / "probe.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def probe(world: str | None = None) -> dict[str, object]:
    """Measure this machine with `world`, by default the one that ships; build every backend for
    it, keep the result, return it."""
    from worldsim.runtime import prepare

    prepare(threads=1)
    import torch

    result: dict[str, object] = {
        "date": time.strftime("%Y-%m-%d"),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        **_kernels(),
    }
    if world is None and DEFAULT_WORLD in shipped_worlds():
        world = DEFAULT_WORLD
    result["backends"] = None if world is None else _backends(world)
    folder = cache_dir()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    (folder / "probe.json").write_text(json.dumps(result) + "\n", encoding="utf-8")
    return result


def _kernels() -> dict[str, float]:
    """GFLOP/s of a matrix product and a convolution of the sizes that a world uses."""
    import torch

    a, b = torch.randn(384, 512), torch.randn(512, 2048)
    picture, weight = torch.randn(1, 64, 48, 64), torch.randn(64, 64, 3, 3)
    with torch.inference_mode():
        product = _best_seconds(lambda: a @ b)
        convolution = _best_seconds(lambda: torch.conv2d(picture, weight, padding=1))
    return {
        "matmul_gflops": round(2 * 384 * 512 * 2048 / product / 1e9, 1),
        "conv_gflops": round(2 * 64 * 64 * 9 * 48 * 64 / convolution / 1e9, 1),
    }


def _best_seconds(call: Callable[[], object], repeats: int = 30) -> float:
    """The quickest of some calls: what the machine can do when nobody disturbs it."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best


def _backends(name: str) -> dict[str, object]:
    """Every backend that runs here, measured in turns, and the quickest that agrees with torch."""
    from worldsim.backends.choice import is_possible
    from worldsim.backends.names import BACKENDS
    from worldsim.backends.store import fingerprint
    from worldsim.benchmarks.backends import measure_backends, quickest
    from worldsim.world import World

    possible = [backend for backend in BACKENDS if is_possible(backend)]
    if "openvino" in possible and "compiled" in possible:
        possible.remove("compiled")  # minutes to build, and never near it (docs/decisions/0010)
    loaded = {backend: World.load(name, backend=backend) for backend in possible}
    running = {backend: world for backend, world in loaded.items() if world.backend == backend}
    rows = measure_backends(running, ticks=PROBE_TICKS, followed=FOLLOWED_TICKS)
    return {
        "choice": quickest(rows),
        "world": name,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "fingerprint": fingerprint(),
        "rows": rows,
    }
