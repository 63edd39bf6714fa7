"""A world with the surface of worldsim.World and no model in it.

What a frame shows can be read back through JPEG: its left half is the action (30 grey levels each),
its right half the tick (2 levels each, modulo 100).
"""

import json
import threading
import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from worldsim.errors import CheckpointError

CONTROLS = [
    "noop",
    "forward",
    "backward",
    "turn_left",
    "turn_right",
    "attack",
    "forward_left",
    "forward_right",
]


@dataclass(frozen=True)
class FakeState:
    """tick int64 (B,), and what the world was started from."""

    tick: np.ndarray
    seed: int = 0
    start: int = 0  # mean grey level of the context


@dataclass(frozen=True)
class FakeOutput:
    frame: np.ndarray
    audio: np.ndarray | None = None
    objects: np.ndarray | None = None
    alarm: np.ndarray | None = None
    timing: dict[str, float] = field(default_factory=lambda: {"head_ms": 1.0, "decode_ms": 2.0})


@dataclass(frozen=True)
class FakePrediction:
    output: FakeOutput
    state: FakeState


@dataclass
class FakeWorld:
    """`predict_s` and `trunk_s` are how long the halves of a tick sleep."""

    name: str = "fake"
    hash: str = "0" * 64
    fps: float = 100.0
    frame_size: tuple[int, int] = (48, 64)
    sample_rate: float | None = None
    flow_steps: int = 2
    predict_s: float = 0.0
    trunk_s: float = 0.0
    has_extras: bool = False
    fail_at: set[int] = field(default_factory=set)  # calls of predict, counted from 1
    calls: list[tuple[str, float]] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)

    actions = CONTROLS
    num_actions = len(CONTROLS)
    bindings = {name: code for code, name in enumerate(CONTROLS)}  # noqa: RUF012

    def reset(self, frames: Any = None, seed: int = 0, batch: int = 1) -> FakeState:
        start = 0 if frames is None else int(np.mean(frames))
        if frames is not None:
            assert frames.shape[-3:] == (*self.frame_size, 3) and frames.dtype == np.uint8
        return FakeState(np.zeros(batch, np.int64), seed, start)

    def predict(self, state: FakeState, action: int) -> FakePrediction:
        if not 0 <= action < self.num_actions:
            raise ValueError(f"action must be < {self.num_actions}, got {action}")
        self._note("predict", self.predict_s)
        if sum(name == "predict" for name, _ in self.calls) in self.fail_at:
            raise RuntimeError("injected fault")
        tick = state.tick + 1
        output = FakeOutput(paint(self.frame_size, action, int(tick[0])))
        if self.has_extras:
            audio = np.full((1, 20), 0.5, np.float32)
            objects = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
            output = replace(output, audio=audio, objects=objects, alarm=np.array([True]))
        return FakePrediction(output, replace(state, tick=tick))

    def advance(self, prediction: FakePrediction) -> FakeState:
        self._note("advance", self.trunk_s)
        return prediction.state

    def step(self, state: FakeState, action: int) -> tuple[FakeState, FakeOutput]:
        prediction = self.predict(state, action)
        return self.advance(prediction), prediction.output

    def snapshot(self, state: FakeState) -> bytes:
        return json.dumps([state.tick.tolist(), state.seed, state.start]).encode()

    def restore(self, data: bytes) -> FakeState:
        try:
            tick, seed, start = json.loads(data)
        except ValueError as error:
            raise CheckpointError("not a snapshot of this world") from error
        return FakeState(np.array(tick), seed, start)

    def _note(self, name: str, seconds: float) -> None:
        self.calls.append((name, time.monotonic()))
        self.threads.add(threading.get_ident())
        time.sleep(seconds)


def paint(size: tuple[int, int], action: int, tick: int) -> np.ndarray:
    """uint8 (1, H, W, 3): the action on the left, the tick on the right."""
    frame = np.empty((1, *size, 3), np.uint8)
    frame[:, :, : size[1] // 2] = 30 * action
    frame[:, :, size[1] // 2 :] = 2 * (tick % 100)
    return frame


def read_back(frame: np.ndarray) -> tuple[int, int]:
    """(action, tick modulo 100) that a frame (H, W, 3) shows."""
    half = frame.shape[1] // 2
    return round(frame[:, : half - 8].mean() / 30), round(frame[:, half + 8 :].mean() / 2)
