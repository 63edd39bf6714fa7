"""What every test gets: one compute thread, no window, no sound device, an empty cache, and skips
that say why."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

# Before torch, SDL and OpenAL are first imported. Busy-waiting OpenMP threads on a shared machine
# turn milliseconds into seconds, and a test must not open a window on somebody's desktop.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ.setdefault("SDL_AUDIODRIVER", "dummy")

# What this user has in the cache (features that training then uses, a probe of the machine) must
# not change what the tests see, and they leave nothing in it.
_cache = tempfile.TemporaryDirectory(prefix="worldsim-cache-")
os.environ["XDG_CACHE_HOME"] = _cache.name

# The suite judges a change, so it draws the same examples every time, on machines that may be
# busy. To look for new failures:
# pytest --hypothesis-profile fuzz
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("fuzz", max_examples=1000)
settings.load_profile("same")

ROOT = Path(__file__).parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is marked `gpu` where there is none; torch is asked only if a test wants it."""
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if not on_gpu:
        return
    import torch

    if not torch.cuda.is_available():
        for item in on_gpu:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def root() -> Path:
    """The top of the repository."""
    return ROOT
