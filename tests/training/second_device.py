"""A second device for machines that have one: the same processor, but what is on it is marked.

An operation that mixes what is on it with a stray, a tensor that was made beside it, would raise on
a GPU, and raises here. Numbers (tensors without dimensions) may be mixed, as there. What is asked
for by a device is on it, and so is what is made anew within `current`, as within
`torch.device("cuda")`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CARRIES = ("aten::copy_", "aten::_to_copy")  # from device to device
LEAVES = (Tensor.cpu,)
READS = (Tensor.numpy, Tensor.__array__)  # what a GPU's tensor cannot be asked for


class SecondDevice:
    """Within it, marks are kept and looked at."""

    def __init__(self) -> None:
        # storages, kept so that none is taken for another
        self._marked: dict[int, Any] = {}
        self._strays: dict[int, Any] = {}
        self._is_current = False
        self._modes = (_Functions(self), _Operations(self))

    def __enter__(self) -> "SecondDevice":
        for mode in self._modes:
            mode.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*error)

    @contextmanager
    def current(self, device: torch.device) -> Iterator[None]:
        """In place of `computing`."""
        self._is_current = True
        try:
            yield
        finally:
            self._is_current = False

    def move(self, model: nn.Module) -> None:
        """Mark all weights and buffers."""
        for tensor in (*model.parameters(), *model.buffers()):
            self.mark(tensor)

    def mark(self, tensor: Tensor) -> Tensor:
        return self._put(tensor, self._marked, self._strays)

    def stray(self, tensor: Tensor) -> Tensor:
        return self._put(tensor, self._strays, self._marked)

    def has(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage()._cdata in self._marked

    def is_stray(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage()._cdata in self._strays

    @staticmethod
    def _put(tensor: Tensor, into: dict[int, Any], out_of: dict[int, Any]) -> Tensor:
        storage = tensor.untyped_storage()
        into[storage._cdata] = storage
        out_of.pop(storage._cdata, None)
        return tensor

    @property
    def is_current(self) -> bool:
        return self._is_current


class _Functions(TorchFunctionMode):
    """What is asked for by its name: a device, or that what is made is on the current one."""

    def __init__(self, device: SecondDevice) -> None:
        super().__init__()
        self._device = device

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        named = [x for x in (*args, *kwargs.values()) if isinstance(x, torch.device)]
        if func in READS and self._device.has(args[0]):
            raise RuntimeError("a tensor on the second device was read as an array")
        out = func(*args, **kwargs)
        if func in LEAVES:
            return self._device.stray(out.detach().clone())
        if func is Tensor.to and named:
            # a copy: on one processor `to` would hand back what it was given
            return out if self._device.has(out) else self._device.mark(out.clone())
        if func is torch.from_numpy:
            return self._device.stray(out)
        if func in _device_constructors():
            is_on = named or self._device.is_current
            return self._device.mark(out) if is_on else self._device.stray(out)
        return out


class _Operations(TorchDispatchMode):
    """What the tensors are that meet in an operation."""

    def __init__(self, device: SecondDevice) -> None:
        super().__init__()
        self._device = device

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        there = [x for x in given if self._device.has(x)]
        here = [x for x in given if x.ndim and self._device.is_stray(x)]
        if there and here and func._schema.name not in CARRIES:
            shapes = [tuple(x.shape) for x in here]
            raise RuntimeError(f"{func}: {shapes} are not on the device where the others are")
        out = func(*args, **kwargs)
        keep = self._device.mark if there else self._device.stray if here else None
        for tensor in tree_leaves(out) if keep else ():
            if isinstance(tensor, Tensor):
                keep(tensor)
        return out
