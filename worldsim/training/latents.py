"""What the tokenizer makes of the footage, kept until its encoder changes.

RUN/latents/<hash of its encoder>/<name of the video's frames>.npy, float16 (T, P, C)
"""

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from worldsim.errors import DataError
from worldsim.tokenizer import Tokenizer, to_pixels
from worldsim.training.footage import Footage

ENCODE_BATCH = 64  # frames


def encode_footage(
    tokenizer: Tokenizer, footage: Footage, directory: Path
) -> list[NDArray[np.float16]]:
    """Latents (T, P, C) of every episode, 16 bits, in memory-mapped files below `directory`.

    Those of another tokenizer are removed.
    """
    tokenizer = tokenizer.eval()
    folder = directory / weights_hash(tokenizer.encoder)[:24]
    for other in set(directory.glob("*")) - {folder}:
        shutil.rmtree(other)
    folder.mkdir(parents=True, exist_ok=True)
    shape = (tokenizer.config.num_tokens, tokenizer.config.channels)
    latents = []
    for name, frames in zip(footage.names, footage.frames, strict=True):
        path = folder / f"{name}.npy"
        if not path.is_file():
            unfinished = path.with_name(f"{name}.part.npy")
            np.save(unfinished, _encode(tokenizer, frames))
            os.replace(unfinished, path)
        latents.append(_open(path, (len(frames), *shape)))
    return latents


def weights_hash(model: nn.Module) -> str:
    """sha256 over names and values of all weights, hex."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@torch.inference_mode()
def _encode(tokenizer: Tokenizer, frames: NDArray[np.uint8]) -> NDArray[np.float16]:
    device = next(tokenizer.parameters()).device
    parts = []
    for begin in range(0, len(frames), ENCODE_BATCH):
        batch = torch.from_numpy(np.array(frames[begin : begin + ENCODE_BATCH])).to(device)
        parts.append(tokenizer.encode(to_pixels(batch)[None])[0].half().cpu().numpy())
    return np.concatenate(parts)


def _open(path: Path, shape: tuple[int, ...]) -> NDArray[np.float16]:
    try:
        latents: NDArray[np.float16] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: damaged cache file ({error}); delete it") from error
    if latents.shape != shape or latents.dtype != np.float16:
        raise DataError(f"{path}: damaged cache file, shape {latents.shape}; delete it")
    return latents
