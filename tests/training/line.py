"""The smallest stage: fits y = 3 x, and does what a test wants at a given update."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from worldsim.training.loop import matrix_optimizers, take_step
from worldsim.training.streams import Streams


class Line:
    """Its updates depend on its streams, on torch's random numbers and on what it carries."""

    name = "line"

    def __init__(
        self, events: Mapping[int, Callable[[], object]] | None = None, footage: str = "a"
    ) -> None:
        """`events` happen in updates by number, counted from 0; `footage` names the data."""
        torch.manual_seed(0)
        self.model: nn.Module = nn.Linear(1, 1)
        self.optimizers = matrix_optimizers(self.model, 0.1, inside=("weight",))
        self.streams = Streams(
            [[np.linspace(-1, 1, 100)]], lanes=4, ticks=3, jump=0.1, seed=0, footage=footage
        )
        self.carried = torch.zeros(4, 1)
        self.spoil = 1.0  # factor on the loss
        self._events, self._updates = dict(events or {}), 0

    def update(self, progress: float) -> dict[str, Tensor]:
        self._events.get(self._updates, lambda: None)()
        self._updates += 1
        x = torch.from_numpy(np.asarray(self.streams.next().arrays[0])).float()
        noise = 0.01 * torch.randn(x.shape) + 0.01 * self.carried
        self.carried = self.spoil * x[:, -1:]
        loss = self.spoil * (self.model(x[..., None])[..., 0] - 3 * x + noise).square().mean()
        take_step(self.optimizers, loss, self.model)
        return {"loss": loss.detach()}

    def state_dict(self) -> dict[str, Tensor]:
        return {"carried": self.carried}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.carried = state["carried"]
