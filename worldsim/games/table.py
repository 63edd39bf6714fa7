"""The games that `worldsim record` knows, and their controls. Imports no game engine.

A control is an index into the controls of its game, or a vector with a float for each of its axes;
recordings, worlds and replays all count in this order.
"""

from dataclasses import dataclass

from worldsim.axes import Action

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
NOOP, FORWARD, BACKWARD, TURN_LEFT, TURN_RIGHT, ATTACK, FORWARD_LEFT, FORWARD_RIGHT = range(8)

FPS = 35.0  # game tics per second; one tic is one frame
SAMPLE_RATE = 22_050  # Hz
SAMPLES_PER_TIC = 630  # 22,050 / 35
FRAME_SIZE = (120, 160)  # pixels, (H, W)


# degrees to the right per tic; speed, of which 50 is a run; 1 fires
AXES = ("turn_right", "forward", "attack")
MAX_TURN, MAX_SPEED = 8.0, 50.0

# of the platformer, and the keys of it that each of them holds
BIONIC = {
    "noop": (),
    "left": ("left",),
    "right": ("right",),
    "jump": ("jump",),
    "attack": ("shoot",),
    "jump_left": ("jump", "left"),
    "jump_right": ("jump", "right"),
    "climb": ("up",),
}
BIONIC_CONTROLS, BIONIC_KEYS = tuple(BIONIC), tuple(BIONIC.values())

Control = Action


@dataclass(frozen=True, kw_only=True)
class GameSpec:
    """One recordable game: by default, a map of the ViZDoom package."""

    name: str
    config: str  # scenario or level file inside the package
    controls: tuple[str, ...] = CONTROLS
    axes: tuple[str, ...] = ()  # in place of controls
    fps: float = FPS
    sample_rate: int = SAMPLE_RATE
    frame_size: tuple[int, int] = FRAME_SIZE
    modes: tuple[str, ...] = ("invulnerable", "ordinary")
    policies: tuple[str, ...] = ("mixture", "keys")


GAMES = {
    spec.name: spec
    for spec in (
        GameSpec(name="doom-hall", config="defend_the_line.cfg"),
        GameSpec(
            name="doom-hall-delta",
            config="defend_the_line.cfg",
            controls=(),
            axes=AXES,
            policies=("mixture",),
        ),
        GameSpec(name="doom-maze", config="health_gathering_supreme.cfg"),
        GameSpec(name="doom-arena", config="deathmatch.cfg"),
        GameSpec(
            name="bionic-blue",
            config="intro.lvl",
            controls=BIONIC_CONTROLS,
            fps=30.0,
            sample_rate=44_100,
            frame_size=(180, 320),
            modes=("ordinary",),
        ),
    )
}
MODES = ("invulnerable", "ordinary")
