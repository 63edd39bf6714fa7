"""The parts of a tick through OpenVINO, on the CPU; needs the extra [openvino].

`build` converts the parts once, to files that hold graphs and weights, no code. From these a player
starts: compiling one batch size takes about a second. `openvino` computes in float32;
`openvino-bf16` computes what stands between key and frame in bfloat16, where the processor has
instructions for it, and what is remembered in float32, since errors of a memory stay.
"""

import tempfile
import threading
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import torch
from numpy.typing import NDArray
from openvino import opset15 as ops
from openvino import properties as props
from openvino.properties import hint as hints

from worldsim.backends.parts import FLEETING, Tensors
from worldsim.errors import MachineError

LARGE = 100_000  # numbers of what is not copied


def build(
    modules: Mapping[str, torch.nn.Module], example: Mapping[str, Tensors]
) -> dict[str, bytes]:
    """Files for `Openvino`: each part for any batch. Takes about ten seconds for a small world."""
    files = {}
    with tempfile.TemporaryDirectory() as folder, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer: shapes that do not depend on the batch
        for part, module in modules.items():
            inputs = example[part]
            model = openvino.convert_model(
                module,
                example_input=inputs,
                input=[openvino.PartialShape([-1, *x.shape[1:]]) for x in inputs],
            )
            resize_by_products(model)
            path = Path(folder, f"{part}.xml")
            openvino.save_model(model, path, compress_to_fp16=False)
            files[f"{part}.xml"] = path.read_bytes()
            files[f"{part}.bin"] = path.with_suffix(".bin").read_bytes()
    return files


def resize_by_products(model: Any) -> None:
    """Turn bilinear resizing into two matrix products, which take a fraction of its time here."""
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Interpolate":
            continue
        before, after = (list(x.get_partial_shape()[2:]) for x in (node.input(0), node.output(0)))
        attributes = node.get_attributes()
        is_ours = attributes["coordinate_transformation_mode"].endswith("half_pixel")
        if not is_ours or any(size.is_dynamic for size in (*before, *after)):
            continue
        (rows, columns), (height, width) = (
            [size.get_length() for size in x] for x in (before, after)
        )
        wide = ops.matmul(node.input_value(0), _resizing(columns, width), False, False)
        tall = ops.matmul(_resizing(rows, height), wide, True, False)
        node.output(0).replace(tall.output(0))


def _resizing(size: int, wanted: int) -> Any:
    """(size, wanted): a row of pixels times this is that row resized."""
    unit = torch.eye(size)[None]
    resized = torch.nn.functional.interpolate(unit, wanted, mode="linear", align_corners=False)
    return ops.constant(resized[0].numpy())


class Openvino:
    """Runs built parts for the batch sizes that were prepared."""

    def __init__(self, name: str, paths: Mapping[str, Path]) -> None:
        """`paths`: what `build` made, by file name. MachineError if the processor cannot."""
        self.name = name
        self._core = openvino.Core()
        self._bf16 = name.endswith("-bf16")
        if self._bf16 and "BF16" not in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise MachineError(
                "this processor has no bfloat16 instructions; use --backend openvino"
            )
        self._models = {
            path.stem: self._core.read_model(
                path.read_bytes(), paths[f"{path.stem}.bin"].read_bytes()
            )
            for path in paths.values()
            if path.suffix == ".xml"
        }
        self._calls: dict[tuple[str, int], _Call] = {}

    def prepare(self, batch: int) -> None:
        """Compile all parts for batches of this size."""
        for part, model in self._models.items():
            if (part, batch) not in self._calls:
                precise = part not in FLEETING or not self._bf16
                self._calls[part, batch] = _Call(self._core, model, batch, precise=precise)

    def run(self, part: str, inputs: Tensors) -> Tensors | None:
        """The outputs of a part; None for inputs of other shapes than were prepared."""
        call = self._calls.get((part, len(inputs[0])))
        return None if call is None else call.run(inputs)


class _Call:
    """One part, compiled for one batch size. Small inputs and outputs are copied, as arrays of
    numpy, whose calls cost least; large ones are bound."""

    def __init__(self, core: Any, model: Any, batch: int, *, precise: bool) -> None:
        fixed = model.clone()
        fixed.reshape({i: [batch, *list(x.partial_shape)[1:]] for i, x in enumerate(model.inputs)})
        settings = {
            props.inference_num_threads(): torch.get_num_threads(),
            props.num_streams(): 1,
            hints.inference_precision(): openvino.Type.f32 if precise else openvino.Type.bf16,
        }
        compiled = core.compile_model(fixed, "CPU", settings)
        self._request = compiled.create_infer_request()
        held = [self._request.get_input_tensor(i).data for i in range(len(model.inputs))]
        self._shapes = [x.shape for x in held]
        self._inputs = [None if x.size > LARGE else x for x in held]
        held = [self._request.get_output_tensor(i).data for i in range(len(model.outputs))]
        self._outputs = [None if x.size > LARGE else x for x in held]
        self._large = [(i, x.shape, x.dtype) for i, x in enumerate(held) if x.size > LARGE]
        self._lock = threading.Lock()

    def run(self, inputs: Tensors) -> Tensors | None:
        """None if they are of other shapes."""
        # kept until the end: a copy of what was not contiguous is bound, not held, by the request
        arrays = [np.ascontiguousarray(x.numpy()) for x in inputs]
        if [x.shape for x in arrays] != self._shapes:
            return None
        with self._lock:
            for i, (held, x) in enumerate(zip(self._inputs, arrays, strict=True)):
                if held is None:
                    self._request.set_input_tensor(i, _shared(x))
                else:
                    held[...] = x
            large = {i: np.empty(shape, dtype) for i, shape, dtype in self._large}
            for i, x in large.items():
                self._request.set_output_tensor(i, _shared(x))
            self._request.infer()
            found = (large[i] if x is None else x.copy() for i, x in enumerate(self._outputs))
            return tuple(map(torch.from_numpy, found))


def _shared(x: NDArray[Any]) -> Any:
    return openvino.Tensor(x, shared_memory=True)
