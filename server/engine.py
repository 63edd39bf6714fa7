"""The world behind a server: one worker thread that owns the model, for every session.

The event loop never computes. Sessions await `predict` and `advance`; the thread takes them in the
order they came. Batching several sessions into one forward pass belongs here, behind the same two
calls.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict, TypeVar

import numpy as np

from worldsim.server.media import encode_picture, encode_sound, fit_picture

if TYPE_CHECKING:
    from worldsim.state import WorldState
    from worldsim.world import Output, Prediction, World

T = TypeVar("T")

Choice = Callable[[], tuple[int, int]]  # (seq, action), asked for when the work begins


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """One predicted tick, encoded; `prediction` goes to `Engine.advance` after it was sent."""

    prediction: "Prediction"
    seq: int  # of the action that it reflects
    began: float  # monotonic seconds
    is_alarm: bool
    payload: "Payload"  # as named in wire.Frame


class Payload(TypedDict):
    """The fields of wire.Frame that the engine fills; times in ms."""

    picture: bytes
    sound: bytes
    objects: bytes
    num_slots: int
    slot_size: int
    predict_ms: float
    head_ms: float
    decode_ms: float
    encode_ms: float


class Engine:
    """A world and the thread that runs it."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="worldsim-model")

    async def reset(self, *, seed: int, picture: bytes | None = None) -> "WorldState":
        """A fresh state; from an encoded `picture` if given (ValueError if it is not one)."""
        return await self._run(lambda: self._reset(seed, picture))

    async def restore(self, data: bytes) -> "WorldState":
        """The state in a snapshot; CheckpointError if it is not one of this world."""
        return await self._run(lambda: self.world.restore(data))

    async def predict(self, state: "WorldState", choose: Choice) -> Rendered:
        """One tick up to the encoded frame, with the action that is the newest when it begins."""
        return await self._run(lambda: self._predict(state, choose))

    async def advance(self, rendered: Rendered) -> "tuple[WorldState, float]":
        """The rest of the tick: the state after it, and the ms that it took."""
        return await self._run(lambda: self._advance(rendered))

    def close(self) -> None:
        """Wait for the call that is running, drop those that are not."""
        self._worker.shutdown(wait=True, cancel_futures=True)

    async def _run(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, call)

    def _reset(self, seed: int, picture: bytes | None) -> "WorldState":
        frames = None if picture is None else fit_picture(picture, self.world.frame_size)[None]
        return self.world.reset(frames=frames, seed=seed)

    def _predict(self, state: "WorldState", choose: Choice) -> Rendered:
        began = time.monotonic()
        seq, action = choose()
        prediction = self.world.predict(state, action)
        output = prediction.output
        predicted = time.monotonic()
        picture = encode_picture(output.frame[0])
        sound = b"" if output.audio is None else encode_sound(output.audio[0])
        objects, num_slots, slot_size = _pack_objects(output)
        payload = Payload(
            picture=picture,
            sound=sound,
            objects=objects,
            num_slots=num_slots,
            slot_size=slot_size,
            predict_ms=1e3 * (predicted - began),
            head_ms=output.timing.get("head_ms", 0.0),
            decode_ms=output.timing.get("decode_ms", 0.0),
            encode_ms=1e3 * (time.monotonic() - predicted),
        )
        return Rendered(
            prediction=prediction,
            seq=seq,
            began=began,
            is_alarm=output.alarm is not None and bool(output.alarm[0]),
            payload=payload,
        )

    def _advance(self, rendered: Rendered) -> "tuple[WorldState, float]":
        began = time.monotonic()
        state = self.world.advance(rendered.prediction)
        return state, 1e3 * (time.monotonic() - began)


def _pack_objects(output: "Output") -> tuple[bytes, int, int]:
    if output.objects is None:
        return b"", 0, 0
    slots = np.asarray(output.objects[0], "<f4")
    return slots.tobytes(), slots.shape[0], slots.shape[1]
