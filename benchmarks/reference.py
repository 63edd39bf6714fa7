"""The plain loop that the training of the dynamics is measured against.

The same model, losses and optimizers; but every product in float32, attention and what is done with
pictures as torch offers it, and the frames of every update encoded when they are needed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from worldsim.dynamics import Dynamics, attention
from worldsim.tokenizer import Tokenizer, to_pixels
from worldsim.training.dynamics_stage import DynamicsStage
from worldsim.training.streams import Chunk, Streams


class Encoding:
    """Streams whose latents are made from the frames, chunk by chunk."""

    def __init__(self, streams: Streams, tokenizer: Tokenizer, device: torch.device) -> None:
        self._streams, self._tokenizer, self._device = streams, tokenizer, device

    @torch.no_grad()
    def next(self) -> Chunk:
        """The next chunk, its second source replaced."""
        chunk = self._streams.next()
        frames = torch.from_numpy(np.asarray(chunk.arrays[0])).to(self._device)
        latents = self._tokenizer.encode(to_pixels(frames)).cpu().numpy()
        return replace(chunk, arrays=[chunk.arrays[0], latents, *chunk.arrays[2:]])


def plain_stage(dynamics: Dynamics, tokenizer: Tokenizer, streams: Streams) -> DynamicsStage:
    """A stage in float32 that encodes as it goes; update it within `plainly`."""
    device = next(dynamics.parameters()).device
    encoding: Any = Encoding(streams, tokenizer, device)
    return DynamicsStage(dynamics, tokenizer, encoding, precision=torch.float32, native=False)


@contextmanager
def plainly() -> Iterator[None]:
    """Within, attention is torch's own, in training as in play."""
    ours = attention._mix_for_training
    attention._mix_for_training = attention._mix
    try:
        yield
    finally:
        attention._mix_for_training = ours
