"""The games that `worldsim record` knows, and the controls that they share. Imports no game engine.

A control is an index into `CONTROLS`; recordings, worlds and replays all count in this order.
"""

from dataclasses import dataclass

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


@dataclass(frozen=True, kw_only=True)
class GameSpec:
    """One recordable map of the ViZDoom package."""

    name: str
    config: str  # scenario file inside the package
    invulnerable: bool = True  # half of the minutes without death and without a time limit


GAMES = {
    spec.name: spec
    for spec in (
        GameSpec(name="doom-hall", config="defend_the_line.cfg"),
        GameSpec(name="doom-maze", config="health_gathering_supreme.cfg"),
        GameSpec(name="doom-arena", config="deathmatch.cfg"),
    )
}
MODES = ("invulnerable", "ordinary")
