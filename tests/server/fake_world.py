"""A world with the surface of worldsim.World and no model in it.

What a frame shows can be read back through JPEG: its left half is the action (30 grey levels each),
its right half the tick (2 levels each, modulo 100).
"""

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from worldsim.axes import Action, Axis, at_rest
from worldsim.errors import CheckpointError, MachineError

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
BINDINGS = {name: code for code, name in enumerate(CONTROLS)}


@dataclass(frozen=True)
class FakeState:
    """int64 (B,) each: ticks, seeds, and the mean grey level of the context."""

    tick: np.ndarray
    seed: np.ndarray
    start: np.ndarray

    @property
    def batch(self) -> int:
        return len(self.tick)

    def tensors(self) -> dict[str, np.ndarray]:
        return {"tick": self.tick, "seed": self.seed, "start": self.start}

    def select(self, index: int) -> "FakeState":
        return FakeState(**{k: v[index : index + 1] for k, v in self.tensors().items()})

    def room(self, batch: int) -> "FakeState":
        return FakeState(
            **{k: np.empty((batch, *v.shape[1:]), v.dtype) for k, v in self.tensors().items()}
        )

    @staticmethod
    def stack(states: Sequence["FakeState"]) -> "FakeState":
        parts = [state.tensors() for state in states]
        return FakeState(**{k: np.concatenate([part[k] for part in parts]) for k in parts[0]})


@dataclass(frozen=True)
class FakeOutput:
    frame: np.ndarray
    audio: np.ndarray | None = None
    objects: np.ndarray | None = None
    alarm: np.ndarray | None = None
    timing: dict[str, float] = field(default_factory=dict)
    flow_steps: int = 0


@dataclass(frozen=True)
class FakePrediction:
    output: FakeOutput
    state: FakeState
    is_finite: np.ndarray


@dataclass
class FakeWorld:
    """`predict_s` and `trunk_s` are how long the halves of a tick sleep, `step_s` a flow step.

    Players with a seed in `raising` break the batch that they are in, those in `nan` only get no
    numbers. `batches` are the rows and flow steps of every prediction since `arm`.
    """

    name: str = "fake"
    backend: str = "torch"
    hash: str = "0" * 64
    backend: str = "none"
    fps: float = 100.0
    frame_size: tuple[int, int] = (48, 64)
    sample_rate: float | None = None
    flow_steps: int = 2
    predict_s: float = 0.0
    step_s: float = 0.0
    trunk_s: float = 0.0
    has_extras: bool = False
    fail_at: set[int] = field(default_factory=set)  # calls of predict, counted from 1
    raising: set[int] = field(default_factory=set)
    nan: set[int] = field(default_factory=set)
    forgetful: set[int] = field(default_factory=set)  # seeds whose `advance` breaks the batch
    calls: list[tuple[str, float]] = field(default_factory=list)
    batches: list[tuple[int, int]] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)
    is_armed: bool = False
    axes: list[Axis] = field(default_factory=list)  # in place of the codes
    bindings: dict[str, int] = field(default_factory=BINDINGS.copy)
    bound: list[dict[str, int]] = field(default_factory=list)  # what was asked of `bind`
    is_locked: bool = False  # its folder cannot be written

    actions = CONTROLS
    num_actions = len(CONTROLS)

    @property
    def idle_action(self) -> Action:
        return at_rest(self.axes) if self.axes else self.bindings.get("noop", 0)

    def bind(self, controls: dict[str, int]) -> None:
        if self.is_locked:
            raise MachineError("/worlds/fake: Read-only file system; bind in a copy of it")
        self.bound.append(controls)
        self.bindings = {**self.bindings, **controls}

    def arm(self) -> None:
        """What the server did to measure the world does not count, and nothing failed in it."""
        self.is_armed = True
        self.calls.clear()
        self.batches.clear()
        self.threads.clear()

    def prepare(self, batch: int) -> None:
        """Nothing to get ready."""

    def reset(self, frames: Any = None, seed: int = 0, batch: int = 1) -> FakeState:
        start = 0 if frames is None else int(np.mean(frames))
        if frames is not None:
            assert frames.shape[-3:] == (*self.frame_size, 3) and frames.dtype == np.uint8
        return FakeState(*(np.full(batch, value, np.int64) for value in (0, seed, start)))

    def predict(
        self,
        state: FakeState,
        action: Any,
        *,
        flow_steps: int | None = None,
        left: float | None = None,
    ) -> FakePrediction:
        told = np.asarray(action)
        if self.axes:  # the first of them is shown as a code would be
            told = np.broadcast_to(told, (state.batch, len(self.axes)))[:, 0]
        actions = np.broadcast_to(told, (state.batch,))
        for value in actions:
            if not self.axes and not 0 <= value < self.num_actions:
                raise ValueError(f"action must be < {self.num_actions}, got {value}")
        steps = self.flow_steps if flow_steps is None else flow_steps
        self.batches.append((state.batch, steps))
        self._note("predict", self.predict_s + steps * self.step_s)
        seeds = set(state.seed.tolist())
        calls = sum(name == "predict" for name, _ in self.calls)
        if self.is_armed and (calls in self.fail_at or seeds & self.raising):
            raise RuntimeError("injected fault")
        tick = state.tick + 1
        size, pairs = self.frame_size, zip(actions, tick.tolist(), strict=True)
        timing = {"head_ms": 1.0 + 1e3 * steps * self.step_s, "decode_ms": 2.0}
        picture = np.concatenate([paint(size, int(a), t) for a, t in pairs])
        output = FakeOutput(picture, timing=timing)
        if self.has_extras:
            audio = np.full((state.batch, 20), 0.5, np.float32)
            objects = np.tile(np.arange(6, dtype=np.float32).reshape(1, 2, 3), (state.batch, 1, 1))
            alarm = np.full(state.batch, True)
            output = replace(output, audio=audio, objects=objects, alarm=alarm)
        finite = np.array([seed not in self.nan for seed in state.seed.tolist()])
        return FakePrediction(output, replace(state, tick=tick), finite)

    def advance(self, prediction: FakePrediction) -> FakeState:
        self._note("advance", self.trunk_s)
        if set(prediction.state.seed.tolist()) & self.forgetful:
            raise RuntimeError("injected fault")
        return prediction.state

    def step(
        self, state: FakeState, action: Any, *, flow_steps: int | None = None
    ) -> tuple[FakeState, FakeOutput]:
        prediction = self.predict(state, action, flow_steps=flow_steps)
        return self.advance(prediction), prediction.output

    def snapshot(self, state: FakeState) -> bytes:
        return json.dumps([x.tolist() for x in state.tensors().values()]).encode()

    def restore(self, data: bytes) -> FakeState:
        try:
            parts = [np.atleast_1d(part) for part in json.loads(data)]
        except ValueError as error:
            raise CheckpointError("not a snapshot of this world") from error
        rows = [np.broadcast_to(part, parts[0].shape).tolist() for part in parts]
        return FakeState(*(np.array(row, np.int64) for row in rows))

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
