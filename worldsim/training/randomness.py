"""Every global random generator as tensors, so that a checkpoint can hold them without pickle."""

import random

import numpy as np
import torch
from torch import Tensor


def random_state() -> dict[str, Tensor]:
    """Of python, numpy and torch, every device included."""
    version, words, gauss = random.getstate()
    _, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    state = {
        "python.words": torch.tensor([version, *words], dtype=torch.int64),
        "python.gauss": torch.tensor([] if gauss is None else [gauss], dtype=torch.float64),
        "numpy.keys": torch.from_numpy(np.asarray(keys, dtype=np.int64)),
        "numpy.place": torch.tensor([position, has_gauss], dtype=torch.int64),
        "numpy.gauss": torch.tensor(cached, dtype=torch.float64),
        "torch.cpu": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        devices = enumerate(torch.cuda.get_rng_state_all())
        state |= {f"torch.cuda.{i}": device for i, device in devices}
    return state


def set_random_state(state: dict[str, Tensor]) -> None:
    """The inverse; a device that this machine lacks is left out."""
    version, *words = state["python.words"].tolist()
    gauss = state["python.gauss"].tolist()
    random.setstate((version, tuple(words), gauss[0] if gauss else None))
    position, has_gauss = state["numpy.place"].tolist()
    keys = state["numpy.keys"].numpy().astype(np.uint32)
    cached = float(state["numpy.gauss"])
    np.random.set_state(("MT19937", keys, position, has_gauss, cached))
    torch.set_rng_state(state["torch.cpu"])
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        if f"torch.cuda.{i}" in state:
            torch.cuda.set_rng_state(state[f"torch.cuda.{i}"], i)
