"""What a tick gives: what it shows, and what the world needs to remember it.

Shapes: B players, A axes, K slots, D numbers of a slot, H W picture.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from worldsim.draw import Drawn
from worldsim.model import Frames
from worldsim.sound import SoundState
from worldsim.state import WorldState


@dataclass(frozen=True, kw_only=True)
class Output:
    """What one tick shows. Absent parts are None."""

    frame: Frames  # (B, H, W, 3)
    audio: NDArray[np.float32] | None = None  # (B, sample_rate / fps), -1..1
    # (B, K, D): x, y, width, height in parts of the frame, presence, then attributes
    objects: NDArray[np.float32] | None = None
    alarm: NDArray[np.bool_] | None = None  # (B,)
    timing: dict[str, float] = field(default_factory=dict)  # ms per stage of this tick
    flow_steps: int = 0  # that this frame was given


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """A tick that has been shown but not yet remembered."""

    output: Output
    state: WorldState  # before the tick
    action: Tensor  # int64 (B,), or float (B, A)
    drawn: Drawn
    picture: Tensor  # (B, 3, H, W)
    seconds: float = 0.0  # that it took
    sound: SoundState | None = None  # after the tick; None in a world without sound

    @property
    def is_finite(self) -> NDArray[np.bool_]:
        """(B,): whether the model gave each player numbers; what is NaN once stays NaN."""
        finite: NDArray[np.bool_] = self.drawn.latent.isfinite().flatten(1).all(dim=1).cpu().numpy()
        return finite
