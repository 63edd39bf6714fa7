"""The world behind a server: one thread owns the model, another encodes what it shows.

The event loop never computes. A batch of players goes through `predict` (their frames) and
`advance` (their memory); in between their frames leave. A player whose turn fails, by an exception
or by numbers that are none, fails alone: the others of the batch are computed again without it.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from worldsim.axes import Action
from worldsim.costs import BUSY, Cost, Costs, measure, size_of_batch, time_tick
from worldsim.errors import CheckpointError
from worldsim.slots import Slot, gather, num_bytes

if TYPE_CHECKING:
    from worldsim.output import Output, Prediction
    from worldsim.state import WorldState
    from worldsim.world import World

log = logging.getLogger("worldsim.server")
T = TypeVar("T")

MOST_PLAYERS = 32  # that are ever computed together
Choice = Callable[[], tuple[int, Action]]  # (seq, action), asked for when the work begins


@dataclass(frozen=True)
class Turn:
    """What a player brings to a tick."""

    slot: Slot
    choose: Choice


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What a tick shows one player. Absent parts are None."""

    seq: int  # of the action that it reflects
    action: Action
    frame: NDArray[np.uint8]  # (H, W, 3)
    sound: NDArray[np.float32] | None
    objects: NDArray[np.float32] | None  # (K, D)
    is_alarm: bool


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Players that were predicted together. `shown` is None for one whose numbers are none."""

    turns: list[Turn]
    players: list[int]  # which of the turns that were asked for
    shown: list[Shown | None]
    prediction: "Prediction"
    steps: int
    began: float  # monotonic seconds
    predict_ms: float
    head_ms: float
    decode_ms: float


class Engine:
    """A world and its two threads."""

    def __init__(self, world: "World", *, least_rows: int = 1) -> None:
        """`least_rows`: batches are never smaller, so that no arrival changes their size."""
        self.world = world
        self.state_bytes = 0  # of one player; known after `measure`
        self._least_rows = least_rows
        self._fitting: dict[str, tuple[object, object]] = {}  # shape and dtype of a state's tensors
        self._model = ThreadPoolExecutor(max_workers=1, thread_name_prefix="worldsim-model")
        self._beside = ThreadPoolExecutor(max_workers=1, thread_name_prefix="worldsim-encode")

    async def measure(self, period: float) -> Costs:
        """Time a few ticks at rising sizes of batch, until they no longer fit into `period`."""
        return await self._run(lambda: self._measure(period))

    async def reset(self, *, seed: int, frame: NDArray[np.uint8] | None = None) -> "WorldState":
        """A fresh state, from a look at `frame` (H, W, 3) if given."""
        frames = None if frame is None else frame[None]
        return await self._run(lambda: self.world.reset(frames=frames, seed=seed))

    async def predict(self, turns: Sequence[Turn], steps: int) -> list[Batch]:
        """One tick up to the frames, with the actions that are the newest when it begins.

        One batch, unless somebody failed; who failed is in none of them, or shown nothing.
        """
        return await self._run(lambda: self._predict(list(turns), steps))

    async def advance(self, batch: Batch) -> tuple[list[Slot | None], float]:
        """The rest of the tick: the state of each player after it (None: failed), and the ms."""
        return await self._run(lambda: self._advance(batch))

    async def aside(self, call: Callable[[], T]) -> T:
        """Run what needs no model (pictures, snapshots) on the other thread."""
        return await asyncio.get_running_loop().run_in_executor(self._beside, call)

    def close(self) -> None:
        """Wait for the calls that are running, drop those that are not."""
        self._model.shutdown(wait=True, cancel_futures=True)
        self._beside.shutdown(wait=True, cancel_futures=True)

    def restore(self, data: bytes) -> "WorldState":
        """The one state in a snapshot, checked: what comes from outside must fit the model.

        Raises CheckpointError. Runs on the caller's thread: call it through `aside`.
        """
        state = self.world.restore(data)
        if state.batch != 1:
            raise CheckpointError(f"the snapshot holds {state.batch} players, not 1")
        for name, tensor in state.tensors().items():
            if (tensor.shape, tensor.dtype) != self._fitting[name]:
                what = f"{tensor.dtype} {tuple(tensor.shape)}"
                raise CheckpointError(f"{name} of the snapshot does not fit this world: {what}")
        return state

    async def _run(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._model, call)

    # On the model's thread -------------------------------------------------------------------

    def _measure(self, period: float) -> Costs:
        state = self.world.reset()
        self.state_bytes = num_bytes(state)
        self._fitting = {name: (x.shape, x.dtype) for name, x in state.tensors().items()}
        steps = self.world.flow_steps
        one = measure(self.world, self._rows(1), steps)
        share = one.step / one.tick
        found = {1: one}
        while max(found) < MOST_PLAYERS and found[max(found)].tick <= BUSY * period:
            took = time_tick(self.world, self._rows(2 * max(found)), steps)
            found[2 * max(found)] = Cost(took, share * took)
        return Costs(found, steps)

    def _rows(self, players: int) -> "WorldState":
        """A batch of so many players, or of the least number of rows, for which all is ready."""
        rows = max(players, self._least_rows)
        self.world.prepare(rows)
        return self.world.reset(batch=rows)

    def _predict(self, turns: list[Turn], steps: int) -> list[Batch]:
        everyone = list(range(len(turns)))
        try:
            return [self._together(turns, everyone, steps)]
        except Exception:  # somebody's state is broken; whose shows when each is tried alone
            log.exception("the model failed")
        each = [self._try(turns, player, steps) for player in everyone] if len(turns) > 1 else []
        return [batch for batch in each if batch is not None]

    def _try(self, turns: list[Turn], player: int, steps: int) -> Batch | None:
        try:
            return self._together(turns, [player], steps)
        except Exception:
            log.exception("the model failed for one player")
            return None

    def _together(self, turns: list[Turn], players: list[int], steps: int) -> Batch:
        began = time.monotonic()
        here = [turns[player] for player in players]
        chosen = [turn.choose() for turn in here]
        size = max(self._least_rows, size_of_batch(len(here)))
        stack = gather([turn.slot for turn in here], size)
        actions = [action for _, action in chosen]
        actions += [actions[-1]] * (size - len(actions))
        prediction = self.world.predict(stack, np.array(actions), flow_steps=steps)
        finite, output = prediction.is_finite, prediction.output
        shown = [
            _shown(output, row, *choice) if finite[row] else None
            for row, choice in enumerate(chosen)
        ]
        return Batch(
            turns=here,
            players=players,
            shown=shown,
            prediction=prediction,
            steps=steps,
            began=began,
            predict_ms=1e3 * (time.monotonic() - began),
            head_ms=output.timing.get("head_ms", 0.0),
            decode_ms=output.timing.get("decode_ms", 0.0),
        )

    def _advance(self, batch: Batch) -> tuple[list[Slot | None], float]:
        began = time.monotonic()
        slots: list[Slot | None]
        try:
            stack = self.world.advance(batch.prediction)
            slots = [Slot(stack, row) if shown else None for row, shown in enumerate(batch.shown)]
        except Exception:
            log.exception("the memory of the model failed")
            slots = [self._alone(batch, row) for row in range(len(batch.turns))]
        return slots, 1e3 * (time.monotonic() - began)

    def _alone(self, batch: Batch, row: int) -> Slot | None:
        """The tick of one player again, by itself, when that of all together failed."""
        shown, turn = batch.shown[row], batch.turns[row]
        if shown is None or len(batch.turns) == 1:
            return None
        try:
            again = Turn(turn.slot, lambda: (shown.seq, shown.action))
            prediction = self._together([again], [0], batch.steps).prediction
            return Slot(self.world.advance(prediction), 0)
        except Exception:
            log.exception("the memory of the model failed for one player")
            return None


def _shown(output: "Output", row: int, seq: int, action: Action) -> Shown:
    return Shown(
        seq=seq,
        action=action,
        frame=output.frame[row],
        sound=None if output.audio is None else output.audio[row],
        objects=None if output.objects is None else output.objects[row],
        is_alarm=output.alarm is not None and bool(output.alarm[row]),
    )
