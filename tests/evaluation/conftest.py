"""A toy game with a known answer to everything: a view that slides over a painted wall.

Turning moves the view sideways, walking up and down, firing lights a square for one tic. The
game is its own perfect world, and can be made worse on purpose.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import pytest

from worldsim.evaluation.counterfactual import HOLD, TURN_TICS, Branches
from worldsim.evaluation.footage import Footage, Library, Window
from worldsim.evaluation.plan import Plan
from worldsim.evaluation.study import Study, build_study

if TYPE_CHECKING:
    from worldsim.world import World

Frames = npt.NDArray[np.uint8]

CONTROLS = (
    "noop",
    "forward",
    "backward",
    "turn_left",
    "turn_right",
    "attack",
    "forward_left",
    "forward_right",
)
HEIGHT, WIDTH = 48, 64
SIDEWAYS = np.array([0, 0, 0, -3, 3, 0, -3, 3])  # the view goes left, the picture right
UPWARDS = np.array([0, 1, -1, 0, 0, 0, 1, 1])


def paint_wall() -> Frames:
    """A wall of smooth random colours with edges, (2 * HEIGHT, 1024, 3)."""
    rng = np.random.default_rng(7)
    coarse = rng.integers(0, 256, size=(2 * HEIGHT // 6, 1024 // 8, 3))
    wall = np.repeat(np.repeat(coarse, 6, axis=0), 8, axis=1)
    return wall.astype(np.uint8)


WALL = paint_wall()


def look(place: npt.NDArray[np.int64], flash: bool) -> Frames:
    """The picture at a place (x, y)."""
    x, y = int(place[0]) % 1024, int(place[1]) % HEIGHT
    columns = (x + np.arange(WIDTH)) % 1024
    view = WALL[y : y + HEIGHT][:, columns].copy()
    if flash:
        view[-16:, 24:40] = 255
    return view


def move(place: npt.NDArray[np.int64], control: int) -> npt.NDArray[np.int64]:
    return np.array([(place[0] + SIDEWAYS[control]) % 1024, (place[1] + UPWARDS[control]) % HEIGHT])


def find(frame: Frames) -> npt.NDArray[np.int64]:
    """The place from which a picture was taken, by its top rows (the flash is at the bottom)."""
    key = frame[:8].tobytes()
    return PLACES[key]


PLACES: dict[bytes, npt.NDArray[np.int64]] = {
    look(np.array([x, y]), False)[:8].tobytes(): np.array([x, y])
    for x in range(1024)
    for y in range(HEIGHT)
}


def is_lit(frame: Frames) -> int:
    return int((frame[-16:, 24:40] == 255).all())


def output(frames: list[Frames]) -> SimpleNamespace:
    return SimpleNamespace(frame=np.stack(frames), timing={"head_ms": 1.0})


@dataclass(frozen=True)
class ToyState:
    """Where each player is (x, y), and whether its context ended with a flash (0, 1)."""

    places: tuple[tuple[int, int, int], ...]

    @staticmethod
    def stack(states: Sequence["ToyState"]) -> "ToyState":
        return ToyState(tuple(place for state in states for place in state.places))

    def select(self, row: int) -> "ToyState":
        return replace(self, places=(self.places[row],))

    def without_memory(self) -> "ToyState":
        return self

    def without_keyframes(self) -> "ToyState":
        return self

    def without_slots(self) -> "ToyState":
        return self


class ToyWorld:
    """The toy game behind the surface of a World; `spoil` makes its pictures worse."""

    name, hash, fps, sample_rate = "toy", "0" * 64, 35.0, None
    frame_size = (HEIGHT, WIDTH)
    num_actions = len(CONTROLS)
    has_keyframes = False
    objects = None
    reanchors = False

    def __init__(
        self,
        spoil: Callable[[Frames], Frames] = lambda frame: frame,
        *,
        is_frozen: bool = False,
        is_deaf: bool = False,
    ) -> None:
        self.spoil = spoil
        self.is_frozen = is_frozen
        self.is_deaf = is_deaf
        self.actions = list(CONTROLS)
        self.bindings = {name: code for code, name in enumerate(CONTROLS)}
        self.asked: list[tuple[int, Any]] = []

    def reset(
        self, frames: Any = None, seed: Any = 0, batch: int = 1, actions: Any = None
    ) -> ToyState:
        assert frames.shape[0] == batch == len(seed)
        assert actions is None or actions.shape == (batch, frames.shape[1] - 1)
        self.asked.append((batch, actions))
        return ToyState(tuple((*find(clip[-1]).tolist(), is_lit(clip[-1])) for clip in frames))

    def step(self, state: ToyState, action: Any, **how: Any) -> tuple[ToyState, Any]:
        assert set(how) <= {"flow_steps", "noise_scale"}
        controls = np.broadcast_to(np.asarray(action), len(state.places))
        if self.is_deaf:
            controls = np.zeros_like(controls)
        if self.is_frozen:
            stills = [look(np.array(place[:2]), bool(place[2])) for place in state.places]
            return state, output([self.spoil(frame) for frame in stills])
        places = [move(np.array(p), c) for p, c in zip(state.places, controls, strict=True)]
        frames = [look(p, bool(c == 5)) for p, c in zip(places, controls, strict=True)]
        moved = ToyState(tuple((*place.tolist(), 0) for place in places))
        return moved, output([self.spoil(frame) for frame in frames])

    def reanchoring(self) -> "ToyWorld":
        return self

    def infer_actions(self, frames: Frames) -> npt.NDArray[np.int64] | None:
        return None

    def encode(self, frames: Frames) -> npt.NDArray[np.float32]:
        """Means of 4x4 places, (T, 16, 3)."""
        blocks = frames.reshape(len(frames), 4, HEIGHT // 4, 4, WIDTH // 4, 3)
        return blocks.mean(axis=(2, 4), dtype=np.float32).reshape(len(frames), 16, 3) / 255

    def reconstruct(self, frames: Frames, clear_cache: bool = False) -> Frames:
        return np.stack([self.spoil(frame) for frame in frames])


@dataclass(frozen=True)
class KeptState(ToyState):
    """A place, and whether the past was forgotten."""

    is_blank: bool = False

    def without_memory(self) -> "KeptState":
        return replace(self, is_blank=True)

    def without_keyframes(self) -> "KeptState":
        return self


class KeepingWorld(ToyWorld):
    """The toy game as a world that needs its memory: without it, pictures are noise."""

    def reset(self, *args: Any, **how: Any) -> KeptState:
        return KeptState(super().reset(*args, **how).places)

    def step(self, state: Any, action: Any, **how: Any) -> tuple[KeptState, Any]:
        moved, out = super().step(state, action, **how)
        frames = np.stack([noisy(f, 60.0) for f in out.frame]) if state.is_blank else out.frame
        return KeptState(moved.places, state.is_blank), SimpleNamespace(frame=frames, timing={})


class CodedWorld(ToyWorld):
    """The toy game with codes of its own: the controls in reverse order, or code 0 for all."""

    def __init__(self, *, is_blind: bool = False, **settings: Any) -> None:
        super().__init__(**settings)
        self.is_blind = is_blind

    def step(self, state: Any, action: Any, **how: Any) -> Any:
        return super().step(state, 7 - np.asarray(action), **how)

    def infer_actions(self, frames: Frames) -> npt.NDArray[np.int64] | None:
        if self.is_blind:
            return np.zeros(len(frames) - 1, dtype=np.int64)
        places = [find(frame) for frame in frames]
        codes = []
        for t in range(1, len(frames)):
            lit = is_lit(frames[t])
            reached = [
                c for c in range(8) if (move(places[t - 1], c) == places[t]).all() and not lit
            ]
            codes.append(7 - (5 if lit else (reached or [0])[0]))
        return np.array(codes, dtype=np.int64)


def blur(frame: Frames) -> Frames:
    """What a tokenizer does: fine edges are softened."""
    soft = frame.astype(np.float32)
    soft[:, 1:-1] = (soft[:, :-2] + 6 * soft[:, 1:-1] + soft[:, 2:]) / 8
    return soft.astype(np.uint8)


def noisy(frame: Frames, spread: float = 10.0) -> Frames:
    rng = np.random.default_rng(int(frame[0, 0, 0]))
    noise = rng.normal(0, spread, frame.shape)
    return np.clip(blur(frame) + noise, 0, 255).astype(np.uint8)


def record(index: int, ticks: int) -> Footage:
    """One recording of the toy game under held random controls."""
    rng = np.random.default_rng(index)
    controls = np.repeat(rng.choice(8, size=ticks), 4)[:ticks]
    controls[0] = -1
    place = np.array([rng.integers(1024), rng.integers(HEIGHT)])
    frames = [look(place, False)]
    for control in controls[1:]:
        place = move(place, int(control))
        frames.append(look(place, bool(control == 5)))
    first = np.arange(ticks) == 0
    return Footage(
        path=Path(f"toy-{index}.mkv"),
        index=index,
        frames=np.stack(frames),
        controls=controls.astype(np.int64),
        resets=first,
        deaths=np.zeros(ticks, dtype=np.bool_),
        header={"controls": CONTROLS},
    )


def toy_branch(library: Library, windows: Sequence[Window], log: Any) -> list[Branches]:
    """The toy game's own counterfactuals, in place of the real game's."""
    found = []
    for window in windows:
        runs = []
        for control in range(len(CONTROLS)):
            place = find(window.seed_frame)
            places = [place := move(place, control) for _ in range(max(TURN_TICS))]
            runs.append(np.stack([look(place, control == 5) for place in places]))
        branches = np.stack(runs)
        turned = branches[3:5][:, [tic - 1 for tic in TURN_TICS]]
        found.append(Branches(window=window, held=branches[:, HOLD - 1], turned=turned))
    return found


@pytest.fixture(scope="session")
def library() -> Library:
    """Four recordings of the toy game, long enough for every horizon but survival."""
    footage = tuple(record(index, 420) for index in range(4))
    return Library(footage=footage, controls=CONTROLS, frame_size=(HEIGHT, WIDTH))


@pytest.fixture(scope="session")
def toy() -> SimpleNamespace:
    """The toy game: where a picture was taken, what is seen from a place, where a control leads."""
    return SimpleNamespace(find=find, look=look, move=move)


@pytest.fixture(scope="session")
def plan() -> Plan:
    """A plan of seconds."""
    return Plan(
        context=16,
        batch=16,
        max_frames=2000,
        windows=8,
        states=6,
        state_tics=400,
        motion_windows=4,
        survivors=3,
    )


@pytest.fixture(scope="session")
def study(library: Library, plan: Plan) -> Study:
    """The toy library with the toy game's own counterfactuals."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("worldsim.evaluation.study.branch", toy_branch)
        patch.setattr("worldsim.evaluation.study.SURVIVAL_FRAMES", 264)
        return build_study(library, plan, len(CONTROLS), lambda text: None)


@pytest.fixture(scope="session")
def make_world() -> "Callable[..., World]":
    """`make_world("noisy")`: the toy game behind the surface of a World, perfect or worse."""
    makers: dict[str, Callable[[], ToyWorld]] = {
        "real": ToyWorld,
        "tokenized": lambda: ToyWorld(blur),
        "noisy": lambda: ToyWorld(noisy),
        "loud": lambda: ToyWorld(partial(noisy, spread=50.0)),
        "frozen": lambda: ToyWorld(is_frozen=True),
        "deaf": lambda: ToyWorld(is_deaf=True),
        "keeping": KeepingWorld,
        "coded": CodedWorld,
        "coded deaf": lambda: CodedWorld(is_deaf=True),
        "blind": lambda: CodedWorld(is_blind=True),
    }
    return lambda kind: cast("World", makers[kind]())
