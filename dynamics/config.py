"""Shape of the dynamics model."""

from dataclasses import dataclass
from typing import Literal

FLOW_CELLS = 4  # cells of the flow per token side


@dataclass(frozen=True, kw_only=True)
class DynamicsConfig:
    """A grid of tokens per tick, mixed over space by attention and over time by Mamba-2."""

    rows: int = 6  # tokens down
    columns: int = 8  # tokens across
    channels: int = 48  # numbers per token
    num_actions: int = 8  # codes; 0 if the actions are axes
    axes: tuple[float, ...] = ()  # what counts as one on each axis of a continuous action
    width: int = 160  # D, features per token
    heads: int = 5
    state_size: int = 32  # N, numbers that the memory keeps per feature
    registers: int = 4  # tokens that belong to no place on the screen
    trunk_layers: int = 2
    mover_layers: int = 1  # before the picture is moved
    look_layers: int = 1  # after
    head_layers: int = 1  # per flow step
    max_flow: float = 16.0  # pixels that the picture may move in one tick
    cell: int = 4  # pixels per side of a cell of the flow, FLOW_CELLS of which make a token's side
    expand: int = 2  # hidden width of the feed-forward layers, in widths
    memory_every: int = 1  # layers of the trunk per layer with a memory; the last of them has it
    bias: Literal["pairs", "offsets"] = "pairs"  # of attention; by offset, large grids need less

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(
                f"width must be a multiple of heads, got {self.width} and {self.heads}"
            )
        if self.trunk_layers % self.memory_every:
            raise ValueError(
                "trunk_layers must be a multiple of memory_every, "
                f"got {self.trunk_layers} and {self.memory_every}"
            )

    @property
    def num_tokens(self) -> int:
        """P, tokens per frame."""
        return self.rows * self.columns

    @property
    def num_places(self) -> int:
        """S, tokens and registers."""
        return self.num_tokens + self.registers
