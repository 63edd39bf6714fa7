"""How large a world is and how it is trained: one row per preset."""

from dataclasses import dataclass

from worldsim.dynamics import DynamicsConfig
from worldsim.tokenizer import TokenizerConfig


@dataclass(frozen=True, kw_only=True)
class Batches:
    """How much one update sees: lanes side by side, ticks in a row."""

    lanes: int
    ticks: int
    jump: float  # chance per chunk that a lane goes elsewhere


@dataclass(frozen=True, kw_only=True)
class Preset:
    """`tokenizer` and `dynamics` are for 4:3 footage; another shape gets about as many tokens."""

    tokenizer: TokenizerConfig
    dynamics: DynamicsConfig
    tokenizer_batches: Batches
    actions_batches: Batches
    dynamics_batches: Batches
    tokenizer_share: float  # of the updates or minutes, 0..1
    actions_share: float  # of what the tokenizer leaves, where actions are learned
    minutes: float  # unless told otherwise


PRESETS = {
    # what a laptop plays in real time and learns in some hours
    "default": Preset(
        tokenizer=TokenizerConfig(),
        dynamics=DynamicsConfig(),
        tokenizer_batches=Batches(lanes=8, ticks=4, jump=0.15),
        actions_batches=Batches(lanes=32, ticks=3, jump=1.0),
        dynamics_batches=Batches(lanes=8, ticks=24, jump=0.04),
        # nothing that the dynamics learns survives a new tokenizer
        tokenizer_share=0.35,
        actions_share=0.12,
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
            expand=4,
            bias="offsets",
        ),
        tokenizer_batches=Batches(lanes=8, ticks=4, jump=0.15),
        actions_batches=Batches(lanes=32, ticks=3, jump=1.0),
        dynamics_batches=Batches(lanes=4, ticks=24, jump=0.04),
        tokenizer_share=0.35,
        actions_share=0.12,
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
            expand=4,
            bias="offsets",
        ),
        tokenizer_batches=Batches(lanes=4, ticks=4, jump=0.15),
        actions_batches=Batches(lanes=8, ticks=3, jump=1.0),
        dynamics_batches=Batches(lanes=2, ticks=12, jump=0.04),
        tokenizer_share=0.35,
        actions_share=0.12,
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
        tokenizer_batches=Batches(lanes=8, ticks=4, jump=0.15),
        actions_batches=Batches(lanes=32, ticks=3, jump=1.0),
        dynamics_batches=Batches(lanes=6, ticks=16, jump=0.04),
        tokenizer_share=0.4,
        actions_share=0.2,
        minutes=2.0,
    ),
}
