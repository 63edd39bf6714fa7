"""The names of the backends. Imports nothing, so that the command line can show them."""

from typing import Literal, get_args

Backend = Literal["auto", "torch", "native", "compiled", "openvino", "openvino-bf16", "cuda"]
BACKENDS: tuple[str, ...] = get_args(Backend)[1:]
