"""Real above imagined: pictures of a run, so that a person can watch it learn.

RUN/strips/STAGE-STEP.png has two rows of frames, in time from left to right: above the real ones,
below what the tokenizer paints of them, or what the world imagines after the same controls.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from worldsim.folder import WorldConfig
from worldsim.model import WorldModel
from worldsim.provenance import PARTLY, write_png
from worldsim.tokenizer import to_frames, to_pixels
from worldsim.training.footage import Footage
from worldsim.world import World

CONTEXT_TICKS = 8  # real frames before the imagined ones
SECONDS = 1.5  # that are shown
COLUMNS = 8
GAP = 2  # pixels between the rows
NOTICE = "AI-generated: real frames above, imagined ones below"


class Strips:
    """Draws from the longest episode; leaves the run's random numbers alone."""

    def __init__(self, run: Path, footage: Footage, config: WorldConfig) -> None:
        self._folder = run / "strips"
        self._config = config
        episode = int(np.argmax([len(f) for f in footage.frames]))
        frames, actions = footage.frames[episode], footage.actions[episode]
        ticks = min(len(frames) - CONTEXT_TICKS, max(COLUMNS, round(SECONDS * footage.fps)))
        begin = (len(frames) - CONTEXT_TICKS - ticks) // 2
        self._context = np.array(frames[begin : begin + CONTEXT_TICKS])
        begin += CONTEXT_TICKS
        self._real = np.array(frames[begin : begin + ticks])
        led = np.array(actions[begin - CONTEXT_TICKS + 1 : begin + ticks])
        low, high = (np.array([getattr(a, end) for a in config.axes]) for end in ("low", "high"))
        self._actions = np.nan_to_num(led).clip(low, high) if config.axes else led.clip(min=0)
        with torch.random.fork_rng():
            self._model = WorldModel(config).eval().requires_grad_(False)

    def tokenizer(self, tokenizer: nn.Module, step: int) -> None:
        """What is left of frames that go through the tokenizer."""
        self._model.tokenizer.load_state_dict(tokenizer.state_dict())
        with torch.inference_mode(), torch.random.fork_rng():
            mine = self._model.tokenizer
            latents = mine.encode(to_pixels(torch.from_numpy(self._real))[None])
            painted, _ = mine.decode(latents, mine.decoder.cleared(1))
        self._write("tokenizer", step, to_frames(painted[0]).numpy())

    def dynamics(self, tokenizer: nn.Module, dynamics: nn.Module, step: int) -> None:
        """What the world imagines after the real controls."""
        self._model.tokenizer.load_state_dict(tokenizer.state_dict())
        self._model.dynamics.load_state_dict(dynamics.state_dict())
        with torch.random.fork_rng():
            world = World(self._folder, self._config, self._model, "")
            known = CONTEXT_TICKS - 1
            state = world.reset(self._context, actions=self._actions[:known])
            imagined = []
            for action in self._actions[known:]:
                state, output = world.step(state, action)
                imagined.append(output.frame[0])
        self._write("dynamics", step, np.stack(imagined))

    def _write(self, stage: str, step: int, imagined: NDArray[np.uint8]) -> None:
        chosen = np.linspace(0, len(self._real) - 1, COLUMNS).round().astype(int)
        rows = [np.concatenate(list(part[chosen]), axis=1) for part in (self._real, imagined)]
        between = np.full((GAP, *rows[0].shape[1:]), 255, dtype=np.uint8)
        self._folder.mkdir(exist_ok=True)
        picture = np.concatenate([rows[0], between, rows[1]])
        write_png(picture, self._folder / f"{stage}-{step:08d}.png", NOTICE, PARTLY)
