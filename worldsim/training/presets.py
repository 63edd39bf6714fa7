"""How large a world is and how it is trained: one row per preset."""

from dataclasses import dataclass, field

from worldsim.dynamics import DynamicsConfig, ObjectsConfig
from worldsim.tokenizer import TokenizerConfig


@dataclass(frozen=True, kw_only=True)
class Batches:
    """How much one update sees: lanes side by side, ticks in a row."""

    lanes: int
    ticks: int
    jump: float  # chance per chunk that a lane goes elsewhere


# nothing that the dynamics learns survives a new tokenizer
SHARES = {
    "tokenizer": 0.35,
    "actions": 0.08,
    "objects": 0.07,
    "dynamics": 0.5,
    "sound": 0.2,
    "features": 0.06,
}


@dataclass(frozen=True, kw_only=True)
class Preset:
    """`tokenizer` and `dynamics` are for 4:3 footage; another shape gets about as many tokens."""

    tokenizer: TokenizerConfig
    dynamics: DynamicsConfig
    objects: ObjectsConfig = field(default_factory=ObjectsConfig)
    tokenizer_batches: Batches
    actions_batches: Batches
    objects_batches: Batches = Batches(lanes=6, ticks=8, jump=0.04)
    dynamics_batches: Batches
    sound_batches: Batches = Batches(lanes=12, ticks=24, jump=0.05)
    features_batches: Batches = Batches(lanes=48, ticks=1, jump=1.0)
    keyframes: int = 1500  # of the footage, that the world keeps
    own_features: int = 2000  # updates of phi, if it has to be learned from the footage
    shares: dict[str, float] = field(default_factory=SHARES.copy)  # of the updates or minutes
    minutes: float  # unless told otherwise


PRESETS = {
    # what a laptop plays in real time and learns in some hours
    "default": Preset(
        tokenizer=TokenizerConfig(),
        dynamics=DynamicsConfig(),
        tokenizer_batches=Batches(lanes=8, ticks=4, jump=0.15),
        actions_batches=Batches(lanes=32, ticks=3, jump=1.0),
        dynamics_batches=Batches(lanes=8, ticks=24, jump=0.04),
        minutes=60.0,
    ),
    # 360p, for one GPU
    "base": Preset(
        tokenizer=TokenizerConfig(
            height=384,
            width=640,
            patch=32,
            channels=96,
            encoder_width=512,
            encoder_hidden=128,
            decoder_widths=(96, 192, 384),
            decoder_hidden=(64, 96, 192),
            max_flow=48.0,
        ),
        dynamics=DynamicsConfig(
            rows=12,
            columns=20,
            channels=96,
            width=768,
            heads=12,
            state_size=64,
            registers=8,
            trunk_layers=8,
            memory_every=4,
            look_layers=2,
            head_layers=2,
            max_flow=48.0,
            cell=8,
            expand=4,
            bias="offsets",
        ),
        tokenizer_batches=Batches(lanes=8, ticks=4, jump=0.15),
        actions_batches=Batches(lanes=32, ticks=3, jump=1.0),
        dynamics_batches=Batches(lanes=4, ticks=24, jump=0.04),
        keyframes=256,
        minutes=600.0,
    ),
    # 720p, for one GPU
    "large": Preset(
        tokenizer=TokenizerConfig(
            height=736,
            width=1280,
            patch=32,
            channels=128,
            encoder_width=768,
            encoder_hidden=192,
            decoder_widths=(96, 256, 512),
            decoder_hidden=(64, 128, 256),
            max_flow=96.0,
        ),
        dynamics=DynamicsConfig(
            rows=23,
            columns=40,
            channels=128,
            width=1024,
            heads=16,
            state_size=64,
            registers=8,
            trunk_layers=16,
            memory_every=4,
            mover_layers=2,
            look_layers=2,
            head_layers=4,
            max_flow=96.0,
            cell=8,
            expand=4,
            bias="offsets",
        ),
        tokenizer_batches=Batches(lanes=4, ticks=4, jump=0.15),
        actions_batches=Batches(lanes=8, ticks=3, jump=1.0),
        dynamics_batches=Batches(lanes=2, ticks=12, jump=0.04),
        keyframes=64,
        minutes=1200.0,
    ),
    # what one core learns in two minutes: to see whether footage works at all
    "small": Preset(
        tokenizer=TokenizerConfig(
            height=48,
            width=64,
            channels=24,
            encoder_width=96,
            encoder_hidden=16,
            decoder_widths=(32, 48, 64),
            decoder_hidden=(16, 16, 32),
        ),
        dynamics=DynamicsConfig(
            rows=3,
            columns=4,
            channels=24,
            width=64,
            heads=4,
            state_size=16,
            registers=2,
            trunk_layers=1,
        ),
        objects=ObjectsConfig(slots=4, attributes=4, hidden=16, width=32),
        tokenizer_batches=Batches(lanes=8, ticks=4, jump=0.15),
        actions_batches=Batches(lanes=32, ticks=3, jump=1.0),
        dynamics_batches=Batches(lanes=6, ticks=16, jump=0.04),
        sound_batches=Batches(lanes=6, ticks=16, jump=0.05),
        keyframes=200,
        own_features=200,
        shares={
            "tokenizer": 0.4,
            "actions": 0.12,
            "objects": 0.08,
            "dynamics": 0.4,
            "sound": 0.2,
            "features": 0.06,
        },
        minutes=2.0,
    ),
}
