"""Parts of a tick compiled ahead of time by torch's inductor; building needs a C++ compiler.

A package holds machine code for one batch size (one player); torch computes the others. `move` is
left to torch: its bicubic sampling gained nothing and took a minute to compile.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from worldsim.backends.native import compiler
from worldsim.backends.parts import Tensors
from worldsim.errors import MachineError

COMPILED = ("refine", "paint", "remember")


def build(
    modules: Mapping[str, torch.nn.Module], example: Mapping[str, Tensors]
) -> dict[str, bytes]:
    """A package per part; takes a minute. MachineError without a compiler."""
    if compiler() is None:
        raise MachineError("it needs a C++ compiler (Debian: apt-get install g++)")
    import torch._inductor
    from torch._inductor import config

    files = {}
    settings = {"freezing": True, "cpp.threads": torch.get_num_threads()}
    with tempfile.TemporaryDirectory() as folder, torch.no_grad(), config.patch(settings):
        for part in COMPILED:
            path = Path(folder, f"{part}.pt2")
            program = torch.export.export(modules[part], example[part])
            torch._inductor.aoti_compile_and_package(program, package_path=str(path))
            files[path.name] = path.read_bytes()
    return files


class Compiled:
    """Runs built packages, for one player."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        """`paths`: what `build` made, by file name."""
        import torch._inductor

        self.name = "compiled"
        self._parts: dict[str, Any] = {
            part: torch._inductor.aoti_load_package(str(paths[f"{part}.pt2"])) for part in COMPILED
        }

    def prepare(self, batch: int) -> None:
        """Nothing: what is not built is left to torch."""

    def run(self, part: str, inputs: Tensors) -> Tensors | None:
        """None for what was not built."""
        if part not in self._parts or len(inputs[0]) != 1:
            return None
        # it looks at shapes and strides only as they were when it was built
        return tuple(self._parts[part](*(x.contiguous() for x in inputs)))
