"""Bionic Blue as a deterministic function of (seed, controls): the near side of its process.

The game's own program is `bionic_engine.py`; it runs anew for every episode, so that nothing of the
episode before can leak into this one.
"""

import importlib.util
import json
import os
import subprocess
import sys
from importlib.metadata import version
from types import TracebackType
from typing import Any, Self

import numpy as np

from worldsim.errors import DataError, MachineError
from worldsim.games.bionic_policy import BionicPlayer
from worldsim.games.scene import Box, Scene, Thing
from worldsim.games.table import BIONIC_KEYS, GAMES, Control

ENGINE = "worldsim.games.bionic_engine"
SAMPLES = 1470  # of a frame


def require_bionic() -> None:
    """MachineError if the game is not installed."""
    if importlib.util.find_spec("bionicblue") is None:
        raise MachineError(
            "Bionic Blue is not installed; install the extra: pip install 'worldsim-engine[games]'"
        )


class BionicGame:
    """One running game; `start` begins an episode, `tic` plays one control. A context manager."""

    def __init__(self, game: str, mode: str) -> None:
        """Raises DataError for a mode that it does not have, MachineError if it cannot run."""
        self.spec = GAMES[game]
        if mode not in self.spec.modes:
            raise DataError(f"unknown mode {mode!r}; {game} has {', '.join(self.spec.modes)}")
        require_bionic()
        self.is_over = self.is_dead = False
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stops the game's process; safe to call twice."""
        if self._process is None:
            return
        self._process.kill()
        self._process.communicate()
        self._process = None

    def versions(self) -> dict[str, str]:
        """Versions that a recording depends on, for its header."""
        return {name: version(name) for name in ("bionicblue", "pygame-ce", "worldsim-engine")}

    def player(self, policy: str, seed: int, scene: Scene) -> BionicPlayer:
        """Who plays the running episode, whose first scene is `scene`."""
        return BionicPlayer(policy, seed, scene)

    def start(self, seed: int) -> Scene:
        """Begins the episode of `seed` and returns its first scene."""
        self.close()
        quiet = {"PYTHONHASHSEED": "0", "PYGAME_HIDE_SUPPORT_PROMPT": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", ENGINE, str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **quiet},
        )
        scene = self._read()
        if scene is None:
            raise MachineError("Bionic Blue did not begin its level")
        return scene

    def tic(self, control: Control) -> Scene | None:
        """Plays one control for one frame; None when the episode ended with it."""
        if not isinstance(control, int) or not 0 <= control < len(BIONIC_KEYS):
            raise ValueError(f"control must be < {len(BIONIC_KEYS)}, got {control}")
        assert self._process is not None and self._process.stdin is not None, "not started"
        try:
            self._process.stdin.write(json.dumps(BIONIC_KEYS[control]).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise MachineError(f"Bionic Blue has ended: {error}") from error
        return self._read()

    def _read(self) -> Scene | None:
        height, width = self.spec.frame_size
        line = self._take(None)
        head: dict[str, Any] = json.loads(line)
        self.is_over, self.is_dead = bool(head["over"]), bool(head["dead"])
        if self.is_over:
            return None
        frame = np.frombuffer(self._take(height * width * 3), dtype=np.uint8)
        sound = np.frombuffer(self._take(2 * SAMPLES), dtype="<i2").astype(np.int16)
        return Scene(
            frame=frame.reshape(height, width, 3),
            sound=sound,
            x=float(head["x"]),
            y=float(head["y"]),
            angle=float(head["angle"]),
            things=tuple(thing_of(thing, (height, width)) for thing in head["things"]),
        )

    def _take(self, size: int | None) -> bytes:
        """So many bytes of what the game says, or a line."""
        assert self._process is not None and self._process.stdout is not None, "not started"
        stream = self._process.stdout
        data = stream.readline() if size is None else stream.read(size)
        if not data or (size is not None and len(data) < size):
            code = self._process.wait()
            raise MachineError(f"Bionic Blue has ended with exit code {code}; it says why above")
        return data


def thing_of(told: dict[str, Any], size: tuple[int, int]) -> Thing:
    """An object; its box is cut at the border of a picture of `size` (H, W)."""
    left, top, width, height = told["box"]
    right, bottom = min(left + width, size[1]), min(top + height, size[0])
    left, top = max(left, 0), max(top, 0)
    box: Box | None = (left, top, right - left, bottom - top)
    if right <= left or bottom <= top:
        box = None
    return Thing(
        id=int(told["id"]),
        name=str(told["name"]),
        category=str(told["category"]) if box else None,
        position=(float(told["position"][0]), float(told["position"][1]), 0.0),
        box=box,
    )
