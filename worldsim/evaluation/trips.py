"""Leave and return in the game itself: turn away, perhaps wait, turn back.

The player first comes to rest. The way out is real footage that a world is shown, the way back is
what it must imagine: what it sees there it has seen before, 2j tics ago at the j-th tic of the way
back (Po et al. 2025 play recorded actions backwards in the same way). The game is played from
recorded moments, so the truth is exact, with everything in it that moves.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from worldsim.errors import DataError, MachineError
from worldsim.evaluation.counterfactual import TURNS, check_same, to_size
from worldsim.evaluation.footage import Footage, Library, Window
from worldsim.evaluation.metrics import Frames

if TYPE_CHECKING:
    from worldsim.games.scene import Scene

CIRCLE = 105  # tics of a full turn
SETTLE = 20  # tics until who stops walking stands still
SAME = 16  # grey levels: a pixel that differs less is the same as it was
Box = tuple[float, float, float, float]  # x, y, width, height in pixels of the world's frame
Ints = npt.NDArray[np.int64]
Boxes = dict[int, Box]  # by the monster's id


@dataclass(frozen=True, kw_only=True, eq=False)
class Trip:
    """One way out and back."""

    window: Window  # the real context, which ends where the way back begins
    controls: Ints  # (k,) of the way back
    back: Frames  # (k, H, W, 3), what is really seen on it
    past: Frames  # (k, H, W, 3), the real frame before it whose angle is nearest
    unit: int  # of replication
    before: Boxes  # monsters in view when the trip begins
    after: Boxes  # and when it is over

    def stayed(self) -> npt.NDArray[np.bool_]:
        """(k, H, W): what is the same as when it was seen before; no monsters, no fire."""
        change = np.abs(self.back.astype(np.int16) - self.past.astype(np.int16)).max(axis=-1)
        return np.asarray(change <= SAME)


def make_trips(
    library: Library,
    starts: Sequence[Window],
    away: int,
    log: Callable[[str], None],
) -> list[Trip]:
    """Trips that return `away` tics after they began: half of them out, at most a full turn, with
    a wait in the middle if that is not enough.

    Starts whose episode ends on the way, or that the replay does not reproduce, are left out.
    Raises MachineError if the game cannot run here or nothing could be replayed.
    """
    found: list[Trip] = []
    for i, start in enumerate(starts):
        log(f"playing trip {i + 1} of {len(starts)} of {away} tics in the game")
        try:
            found.append(_trip(library, start, away, i))
        except DataError as error:
            log(f"left out: {error}")
    if starts and not found:
        raise MachineError("none of the recorded moments could be replayed in the game")
    return found


def _trip(library: Library, start: Window, away: int, number: int) -> Trip:
    from worldsim.games.doom import replay

    names = library.controls
    there, back = (names.index(name) for name in (TURNS if number % 2 else TURNS[::-1]))
    turns = min(away // 2, CIRCLE)
    wait = [names.index("noop")] * (away - 2 * turns)
    controls = start.footage.controls
    assert controls is not None, "callers choose windows with controls"
    with replay(start.footage.header, controls[1 : start.now + 1].tolist()) as game:
        check_same(start, to_size(game.frame(), library.frame_size))
        settling = [_next(game.tic(names.index("noop"))) for _ in range(SETTLE)]
        first = settling[-1]
        out = [_next(game.tic(control)) for control in [there] * turns + wait]
        returned = [_next(game.tic(back)) for _ in range(turns)]
    seen = [*settling, *out]
    shown = np.stack([to_size(scene.frame, library.frame_size) for scene in seen])
    angles = np.array([scene.angle for scene in seen])
    nearest = [int(np.argmin(np.abs(_between(angles, scene.angle)))) for scene in returned]
    return Trip(
        window=_shown(
            start, shown, [names.index("noop")] * SETTLE + [there] * turns + wait, number
        ),
        controls=np.full(turns, back),
        back=np.stack([to_size(scene.frame, library.frame_size) for scene in returned]),
        past=shown[nearest],
        unit=start.unit,
        before=_monsters(first, library.frame_size),
        after=_monsters(returned[-1], library.frame_size),
    )


def _next(scene: "Scene | None") -> "Scene":
    if scene is None:
        raise DataError("the episode ends on the way")
    return scene


def _shown(start: Window, out: Frames, controls: list[int], number: int) -> Window:
    """The recorded context and the way out, as if it had all been recorded."""
    frames = np.concatenate([start.frames, out])
    past = start.past_controls
    assert past is not None, "callers choose windows with controls"
    none = np.zeros(len(frames), dtype=np.bool_)
    footage = Footage(
        path=start.footage.path,
        index=1_000_000 + number,  # windows are told apart by it
        frames=frames,
        controls=np.array([-1, *past, *controls], dtype=np.int64),
        resets=none,
        deaths=none,
        header={},
    )
    return Window(footage, len(frames) - 1, len(frames))


def _between(angles: npt.NDArray[np.float64], angle: float) -> npt.NDArray[np.float64]:
    return np.asarray((angles - angle + 180.0) % 360.0 - 180.0)


def _monsters(scene: "Scene", size: tuple[int, int]) -> Boxes:
    """Of those in view: boxes in pixels of a frame of `size`."""
    height, width = scene.frame.shape[:2]
    down, across = size[0] / height, size[1] / width
    return {
        thing.id: (
            thing.box[0] * across,
            thing.box[1] * down,
            thing.box[2] * across,
            thing.box[3] * down,
        )
        for thing in scene.things
        if thing.box is not None and thing.category == "Monster"
    }
