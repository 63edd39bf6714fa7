"""The Mamba memory trunk and the action-conditioned head."""

from worldsim.dynamics.config import DynamicsConfig
from worldsim.dynamics.dynamics import Dynamics
from worldsim.dynamics.objects import ObjectsConfig
from worldsim.dynamics.trunk import TrunkState

__all__ = ["Dynamics", "DynamicsConfig", "ObjectsConfig", "TrunkState"]
