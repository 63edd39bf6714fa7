"""The Mamba memory trunk and the action-conditioned head."""

from worldsim.dynamics.config import DynamicsConfig
from worldsim.dynamics.dynamics import Dynamics, draw
from worldsim.dynamics.head import Head, Moved
from worldsim.dynamics.objects import ObjectsConfig
from worldsim.dynamics.ssm import Mamba2, Update
from worldsim.dynamics.trunk import Trunk, TrunkState

__all__ = [
    "Dynamics",
    "DynamicsConfig",
    "Head",
    "Mamba2",
    "Moved",
    "ObjectsConfig",
    "Trunk",
    "TrunkState",
    "Update",
    "draw",
]
