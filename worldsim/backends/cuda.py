"""The parts of a tick on a GPU: each captured once as a CUDA graph over buffers of its own.

A tick is many small kernels, whose launches cost more than their work; a graph launches them at
once. The recurrence is mamba-ssm's kernel where that is installed (extra [cuda]), else torch.
Inputs are copied into the graph's buffers and outputs out of them, so that a state stays a value.

Not measured yet: this needs a GPU, and the tests marked `gpu` hold it to torch there.
"""

import importlib
import importlib.util
import logging
import sys
import types
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from worldsim.backends.parts import Parts, Remember, Tensors
from worldsim.backends.updates import with_update
from worldsim.dynamics import Update
from worldsim.errors import MachineError

log = logging.getLogger("worldsim")

WARM_UP = 3  # runs before the capture, so that libraries have allocated what they need


def kernel_update() -> Update | None:
    """mamba-ssm's kernel for the recurrence, None where it is not installed or does not load."""
    try:
        return adapted(load_kernel())
    except Exception as error:  # a missing package, or one built for another torch
        log.warning("mamba-ssm's kernel cannot be used, torch's recurrence is: %s", error)
        return None


def load_kernel() -> Callable[..., Tensor]:
    """`selective_state_update` (Triton) of mamba-ssm, without the rest of that package, whose
    import needs what training language models needs. Whatever an import raises."""
    package = importlib.util.find_spec("mamba_ssm")
    if package is None or not package.submodule_search_locations:
        raise MachineError("mamba-ssm is not installed: pip install 'worldsim-engine[cuda]'")
    top = package.submodule_search_locations[0]
    if "mamba_ssm" not in sys.modules:
        bare = types.ModuleType("mamba_ssm")
        bare.__path__ = [top]
        sys.modules["mamba_ssm"] = bare
        try:
            module = importlib.import_module("mamba_ssm.ops.triton.selective_state_update")
        finally:
            del sys.modules["mamba_ssm"]
    else:
        module = importlib.import_module("mamba_ssm.ops.triton.selective_state_update")
    kernel: Callable[..., Tensor] = module.selective_state_update
    return kernel


def adapted(kernel: Callable[..., Tensor]) -> Update:
    """`selective_state_update`, which works in place, as an `Update`, which does not."""

    def update(
        values: Tensor, b: Tensor, c: Tensor, dt: Tensor, a: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        heads, features, size = state.shape[1:]
        after = state.clone()
        nothing = a.new_zeros(heads)[:, None].expand(heads, features)
        outputs = kernel(
            after,
            values.contiguous(),
            dt[..., None].expand(-1, -1, features),
            a[:, None, None].expand(heads, features, size),
            b[:, None].contiguous(),
            c[:, None].contiguous(),
            # it says that it could do without these two, but fails (mamba-ssm 2.3.2)
            D=nothing,
            dt_bias=nothing,
        )
        return outputs, after

    return update


class Cuda:
    """Runs the parts as CUDA graphs, for the batch sizes that were prepared."""

    def __init__(self, plain: Parts) -> None:
        """MachineError without a GPU."""
        if not torch.cuda.is_available():
            raise MachineError("there is no CUDA device")
        self.name = "cuda"
        self._plain = plain
        update = kernel_update()
        self._modules: Mapping[str, nn.Module] = dict(plain.modules)
        if update is not None:
            trunk = with_update(plain.model.dynamics.trunk, update)
            self._modules = {**plain.modules, "remember": Remember(plain.model, trunk)}
        self._graphs: dict[tuple[str, int], _Graph] = {}

    def prepare(self, batch: int) -> None:
        """Capture all parts for batches of this size."""
        for part, inputs in self._plain.example(batch).items():
            if (part, batch) not in self._graphs:
                given = tuple(x.cuda() for x in inputs)
                self._graphs[part, batch] = _Graph(self._modules[part], given)

    def run(self, part: str, inputs: Tensors) -> Tensors | None:
        """None for inputs of other shapes than were prepared."""
        graph = self._graphs.get((part, len(inputs[0])))
        return None if graph is None or not graph.fits(inputs) else graph.run(inputs)


class _Graph:
    """One part, captured for one batch size."""

    def __init__(self, module: nn.Module, inputs: Tensors) -> None:
        self._inputs = inputs
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(WARM_UP):
                module(*inputs)
        torch.cuda.current_stream().wait_stream(beside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._outputs: Tensors = module(*inputs)

    def fits(self, inputs: Tensors) -> bool:
        return [x.shape for x in inputs] == [x.shape for x in self._inputs]

    def run(self, inputs: Tensors) -> Tensors:
        for held, x in zip(self._inputs, inputs, strict=True):
            held.copy_(x)
        self._graph.replay()
        return tuple(x.clone() for x in self._outputs)
