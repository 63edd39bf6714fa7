"""What would really have happened: every control held from a recorded moment, in the game itself.

The recorded episode is replayed from its seed and controls up to the moment, once per control, so
the branches are the truth and not an estimate. They are made once and serve every predictor.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from worldsim.errors import DataError, MachineError
from worldsim.evaluation.footage import Library, Window
from worldsim.evaluation.metrics import Frames

HOLD = 4  # tics that each control is held for retrieval
TURN_TICS = (2, 4, 6)  # when the sign test looks at a held turn; six tics are about 20 degrees
TURNS = ("turn_left", "turn_right")


@dataclass(frozen=True, kw_only=True, eq=False)
class Branches:
    """The real futures of one moment."""

    window: Window
    held: Frames  # (A, H, W, 3): the frame after HOLD tics of each control
    turned: Frames  # (2, 3, H, W, 3): at TURN_TICS of turn_left and of turn_right

    def classes(self) -> list[list[int]]:
        """Controls grouped by pixel-identical futures: pressing either is the same thing here."""
        groups: dict[bytes, list[int]] = {}
        for control, frame in enumerate(self.held):
            groups.setdefault(frame.tobytes(), []).append(control)
        return list(groups.values())


def branch(
    library: Library, windows: Sequence[Window], log: Callable[[str], None]
) -> list[Branches]:
    """The branches of each window's last context frame.

    Windows whose episode ends in a branch, or that the replay does not reproduce, are left out.
    Raises MachineError when the game cannot run here or nothing could be replayed.
    """
    from worldsim.games.doom import replay

    found: list[Branches] = []
    for i, window in enumerate(windows):
        log(f"playing the game's own branches of state {i + 1} of {len(windows)}")
        try:
            found.append(_branches_of(library, window, replay))
        except DataError as error:
            log(f"left out: {error}")
    if windows and not found:
        raise MachineError("none of the recorded moments could be replayed in the game")
    return found


def _branches_of(library: Library, window: Window, replay: Callable[..., Any]) -> Branches:
    held: list[Frames] = []
    turned: dict[str, Frames] = {}
    controls = window.footage.controls
    assert controls is not None, "callers choose windows with controls"
    path = controls[1 : window.now + 1].tolist()
    for control, name in enumerate(library.controls):
        with replay(window.footage.header, path) as game:
            if control == 0:
                check_same(window, to_size(game.frame(), library.frame_size))
            ticks = max(TURN_TICS) if name in TURNS else HOLD
            frames = [game.step(control) for _ in range(ticks)]
        held.append(to_size(frames[HOLD - 1], library.frame_size))
        if name in TURNS:
            seen = [to_size(frames[tic - 1], library.frame_size) for tic in TURN_TICS]
            turned[name] = np.stack(seen)
    return Branches(
        window=window, held=np.stack(held), turned=np.stack([turned[name] for name in TURNS])
    )


def check_same(window: Window, replayed: Frames) -> None:
    """The recording went through a video codec, so the replay is close to it, not equal."""
    error = np.abs(replayed.astype(np.int16) - window.seed_frame.astype(np.int16)).mean()
    if error > 12:
        raise DataError(
            f"{window.footage.path}: the replayed game does not show recorded frame {window.now}"
        )


def to_size(frame: Frames, size: tuple[int, int]) -> Frames:
    """As the recordings were resized when they were read."""
    from worldsim.data.video import frame_to_size

    return frame_to_size(frame, size)
