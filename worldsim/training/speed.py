"""Native parts put into a model that is to be trained."""

from torch import nn

from worldsim.dynamics.attention import SpatialAttention
from worldsim.dynamics.ssm import Mamba2
from worldsim.training.attention import native_attention
from worldsim.training.native import Library
from worldsim.training.scan import WIDE, native_scan


def speed_up(model: nn.Module, library: Library) -> None:
    """Let attention and the scan of memories in `model` be computed by `library` from now on."""
    for module in model.modules():
        if isinstance(module, SpatialAttention):
            module.fused = native_attention(library)
        elif isinstance(module, Mamba2) and module.state_size % WIDE == 0:
            module.scan = native_scan(library)
