"""A trunk whose recurrence is computed by something else, and the backend that it makes."""

import copy

from torch import nn

from worldsim.backends.parts import Remember, Tensors
from worldsim.dynamics import Mamba2, Trunk, Update
from worldsim.model import WorldModel


def with_update(trunk: Trunk, update: Update) -> Trunk:
    """A trunk with the same parameters, not copies of them, and another recurrence."""
    shared = {id(parameter): parameter for parameter in trunk.parameters()}
    changed = copy.deepcopy(trunk, shared)
    for module in changed.modules():
        if isinstance(module, Mamba2):
            module.update = update
    return changed


class UpdateRunner:
    """Computes `remember` with another recurrence, for batches of any size."""

    def __init__(self, name: str, model: WorldModel, update: Update) -> None:
        self.name = name
        trunk = with_update(model.dynamics.trunk, update)
        self._remember: nn.Module = Remember(model, trunk).eval()

    def prepare(self, batch: int) -> None:
        """Nothing depends on the batch."""

    def run(self, part: str, inputs: Tensors) -> Tensors | None:
        """None for all parts but `remember`."""
        if part != "remember":
            return None
        outputs: Tensors = self._remember(*inputs)
        return outputs
