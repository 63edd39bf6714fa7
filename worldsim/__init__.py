"""Real-time, action-conditioned world models: videos in, a world to walk around in out."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worldsim.env import WorldEnv, WorldVectorEnv
    from worldsim.errors import WorldsimError
    from worldsim.output import Output
    from worldsim.state import WorldState
    from worldsim.training.run import train
    from worldsim.world import World

_HOME = {
    "World": "worldsim.world",
    "Output": "worldsim.output",
    "WorldState": "worldsim.state",
    "WorldEnv": "worldsim.env",
    "WorldVectorEnv": "worldsim.env",
    "WorldsimError": "worldsim.errors",
    "train": "worldsim.training.run",
}

__all__ = ["Output", "World", "WorldEnv", "WorldState", "WorldVectorEnv", "WorldsimError", "train"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Import on first use: `worldsim --help` must not pay for torch."""
    if name not in _HOME:
        raise AttributeError(f"module 'worldsim' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
