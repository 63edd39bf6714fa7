"""ViZDoom as a deterministic function of (game, mode, seed, controls); one tic, one frame.

`DoomGame` plays an episode from its first tic. `replay` runs a recorded episode up to some tic and
hands it over open, so that "what if another key had been pressed here" has an exact answer.
Sound is the mean of the engine's two channels: the hall is heard in mono.
"""

import ctypes
import sys
import tempfile
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from worldsim.errors import DataError, MachineError
from worldsim.games.policy import Player
from worldsim.games.scene import Scene, Thing, Walls
from worldsim.games.steer import Steerer
from worldsim.games.table import (
    ATTACK,
    CONTROLS,
    GAMES,
    MODES,
    SAMPLES_PER_TIC,
    Control,
    GameSpec,
)

# MOVE_FORWARD, MOVE_BACKWARD, TURN_LEFT, TURN_RIGHT, ATTACK for each of the eight controls
BUTTON_STATES = (
    (0, 0, 0, 0, 0),
    (1, 0, 0, 0, 0),
    (0, 1, 0, 0, 0),
    (0, 0, 1, 0, 0),
    (0, 0, 0, 1, 0),
    (0, 0, 0, 0, 1),
    (1, 0, 1, 0, 0),
    (1, 0, 0, 1, 0),
)


def require_vizdoom() -> Any:
    """The vizdoom module; MachineError if it, or the sound library that it loads, is missing."""
    try:
        import vizdoom
    except ImportError as error:
        raise MachineError(
            f"ViZDoom cannot be imported ({error}); install the extra: "
            "pip install 'worldsim-engine[games]'"
        ) from error
    require_openal()
    return vizdoom


def require_openal() -> None:
    """ViZDoom loads OpenAL at run time and is silent without it, so look for it first."""
    if not sys.platform.startswith("linux"):
        return
    try:
        ctypes.CDLL("libopenal.so.1")
    except OSError as error:
        raise MachineError(
            "libopenal.so.1 is missing, and without it the game's sound would be all zeros; "
            "install the system package libopenal1 (Debian: apt-get install libopenal1)"
        ) from error


class DoomGame:
    """One running engine; `start` begins an episode, `tic` plays one control.

    A context manager: an engine that is not closed stays behind as a process.
    """

    def __init__(self, game: str, mode: str) -> None:
        """Raises DataError for an unknown game or mode, MachineError if the engine cannot run."""
        if game not in GAMES:
            raise DataError(f"unknown game {game!r}; known: {', '.join(GAMES)}")
        if mode not in MODES:
            raise DataError(f"unknown mode {mode!r}; known: {', '.join(MODES)}")
        self.spec = GAMES[game]
        self.mode = mode
        self._vizdoom = require_vizdoom()
        self._engine: Any = None

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
        """Stops the engine's process; safe to call twice."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def versions(self) -> dict[str, str]:
        """Versions that a recording depends on, for its header."""
        return {name: version(name) for name in ("vizdoom", "worldsim-engine")}

    @property
    def is_over(self) -> bool:
        """True once the player died or the time ran out: there are no further frames."""
        return bool(self._engine.is_episode_finished())

    @property
    def is_dead(self) -> bool:
        return bool(self._engine.is_player_dead())

    def start(self, seed: int) -> Scene:
        """Begins the episode of `seed` in a fresh engine and returns its first scene."""
        # A new process per episode: nothing of the episode before can leak into this one.
        self.close()
        self._engine = configure(self._vizdoom, self.spec, self.mode, seed)
        try:
            self._engine.init()
        except self._vizdoom.ViZDoomErrorException as error:
            raise MachineError(f"ViZDoom did not start {self.spec.config}: {error}") from error
        if self.mode == "invulnerable":
            self._engine.send_game_command("god")
        return self.scene()

    def walls(self) -> Walls:
        """The blocking lines of the map of the running episode."""
        lines = [
            (line.x1, line.y1, line.x2, line.y2)
            for sector in self._engine.get_state().sectors
            for line in sector.lines
            if line.is_blocking
        ]
        return Walls(np.array(lines, dtype=np.float64).reshape(-1, 4))

    def player(self, policy: str, seed: int, scene: Scene) -> "Player | Steerer":
        """Who plays the running episode, whose first scene is `scene`."""
        if self.spec.axes:
            return Steerer(seed, self.walls(), scene)
        return Player(policy, seed, self.walls(), scene)

    def tic(self, control: Control) -> Scene | None:
        """Plays one control for one tic; None when the episode ended with it."""
        self.skip(control, render=True)
        return None if self.is_over else self.scene()

    def skip(self, control: Control, *, render: bool = False) -> None:
        """Plays one control without looking at the result (three times faster)."""
        self._engine.set_action(self._buttons(control))
        self._engine.advance_action(1, render)

    def _buttons(self, control: Control) -> list[float]:
        """The state of the engine's buttons."""
        if isinstance(control, tuple):
            if len(control) != len(self.spec.axes):
                raise ValueError(f"control must be {len(self.spec.axes)} floats, got {control}")
            return list(control)
        if not 0 <= control < len(self.spec.controls):
            raise ValueError(f"control must be < {len(self.spec.controls)}, got {control}")
        return [float(button) for button in BUTTON_STATES[control]]

    def frame(self) -> NDArray[np.uint8]:
        """The picture of the current tic, uint8 (120, 160, 3)."""
        return np.array(self._engine.get_state().screen_buffer, dtype=np.uint8)

    def scene(self) -> Scene:
        """Everything about the current tic; the episode must not be over."""
        state = self._engine.get_state()
        x, y, angle = (float(value) for value in state.game_variables)
        return Scene(
            frame=np.array(state.screen_buffer, dtype=np.uint8),
            sound=mono(state.audio_buffer),
            x=x,
            y=y,
            angle=angle % 360.0,
            things=things(state),
        )


def configure(vizdoom: Any, spec: GameSpec, mode: str, seed: int) -> Any:
    """An engine with the project's buttons, picture, sound and ground truth, not started yet."""
    engine = vizdoom.DoomGame()
    engine.load_config(str(Path(vizdoom.scenarios_path) / spec.config))
    engine.set_window_visible(False)
    engine.set_mode(vizdoom.Mode.PLAYER)
    engine.set_screen_resolution(vizdoom.ScreenResolution.RES_160X120)
    engine.set_screen_format(vizdoom.ScreenFormat.RGB24)
    button, variable = vizdoom.Button, vizdoom.GameVariable
    if spec.axes:
        moves = [button.TURN_LEFT_RIGHT_DELTA, button.MOVE_FORWARD_BACKWARD_DELTA]
    else:
        moves = [button.MOVE_FORWARD, button.MOVE_BACKWARD, button.TURN_LEFT, button.TURN_RIGHT]
    engine.set_available_buttons([*moves, button.ATTACK])
    engine.set_available_game_variables([variable.POSITION_X, variable.POSITION_Y, variable.ANGLE])
    engine.set_labels_buffer_enabled(True)
    engine.set_objects_info_enabled(True)
    engine.set_sectors_info_enabled(True)
    engine.set_audio_buffer_enabled(True)
    engine.set_audio_sampling_rate(vizdoom.SamplingRate.SR_22050)
    engine.set_audio_buffer_size(1)
    engine.add_game_args("+snd_efx 0")
    # The engine writes its settings somewhere: not into the reader's working directory.
    engine.set_doom_config_path(str(Path(tempfile.gettempdir()) / "worldsim-vizdoom.ini"))
    if mode == "invulnerable":
        engine.add_game_args("+sv_cheats 1")
        engine.set_episode_timeout(0)
    engine.set_seed(seed)
    return engine


def mono(sound: NDArray[np.int16]) -> NDArray[np.int16]:
    """int16 (630, 2) -> int16 (630,): the mean of the channels."""
    if sound.shape != (SAMPLES_PER_TIC, 2):
        raise MachineError(f"ViZDoom gave {sound.shape} sound samples, not ({SAMPLES_PER_TIC}, 2)")
    mean: NDArray[np.int16] = (sound.astype(np.int32).sum(axis=1) // 2).astype(np.int16)
    return mean


def things(state: Any) -> tuple[Thing, ...]:
    """All objects of the map except the player, with boxes for those in view."""
    labels = {label.object_id: label for label in state.labels}
    found = []
    for item in state.objects:
        if item.name == "DoomPlayer":
            continue
        label = labels.get(item.id)
        found.append(
            Thing(
                id=int(item.id),
                name=str(item.name),
                category=str(label.object_category) if label else None,
                position=(item.position_x, item.position_y, item.position_z),
                box=(label.x, label.y, label.width, label.height) if label else None,
            )
        )
    return tuple(found)


def check_sound(game: str) -> None:
    """Raises MachineError if a few shots are silent: OpenAL is there but does not work."""
    with DoomGame(game, "ordinary") as doom:
        peak = int(np.abs(doom.start(0).sound).max())
        for _ in range(35):
            scene = doom.tic((0.0, 0.0, 1.0) if doom.spec.axes else ATTACK)
            peak = max(peak, int(np.abs(scene.sound).max()) if scene else 0)
    if peak == 0:
        raise MachineError(
            "ViZDoom's sound is all zeros: libopenal.so.1 was found but does not work; "
            "reinstall the system package libopenal1"
        )


class Replay(DoomGame):
    """A recorded episode, played again up to a tic and open to go another way from there."""

    def step(self, control: int) -> NDArray[np.uint8]:
        """Plays one control and returns the next frame; DataError if the episode ends with it."""
        self.skip(control, render=True)
        if self.is_over:
            raise DataError(f"the episode is over after control {CONTROLS[control]}")
        return self.frame()


def replay(header: Mapping[str, Any], controls: Iterable[int]) -> Replay:
    """The episode of `header` (game, mode, seed), open at the tic after `controls`.

    `controls` are those of the side file without the null of the first frame: n of them lead to
    frame n. Use it in a `with` statement. Raises DataError if the episode ends on the way.
    """
    doom = Replay(str(header["game"]), str(header["mode"]))
    try:
        doom.start(int(header["seed"]))
        path = [int(control) for control in controls]
        for played, control in enumerate(path, start=1):
            # Only the last tic is rendered: that is what makes long replays quick.
            doom.skip(control, render=played == len(path))
        if doom.is_over:
            raise DataError(f"the replayed episode ended within {len(path)} controls")
    except BaseException:
        doom.close()
        raise
    return doom
