"""What a run was asked for: the arguments of `worldsim train`, checked."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from worldsim.errors import ArgumentError
from worldsim.training.consistency import Kind
from worldsim.training.plan import STAGES
from worldsim.training.presets import PRESETS, Preset

Actions = Literal["learned", "labelled", "few"]


@dataclass(frozen=True, kw_only=True)
class Request:
    """See `worldsim.training.run.train`. Raises ArgumentError, which names it."""

    videos: Path
    run: Path
    actions: Actions
    labels: Path | None
    init: str | Path | None
    preset_name: str
    size: tuple[int, int] | None
    device: str
    seed: int
    minutes: float | None
    steps: int | None
    name: str | None
    stages: Sequence[str] | None
    features: str | None
    consistency: Kind | Literal["off"]

    def __post_init__(self) -> None:
        known = get_args(Actions)
        if self.actions not in known:
            raise ArgumentError(f"actions must be one of {', '.join(known)}, got {self.actions!r}")
        if (self.actions == "few") != (self.labels is not None):
            raise ArgumentError(
                "labels is a folder of recordings, for actions='few' and only for that"
            )
        if self.consistency not in (*get_args(Kind), "off"):
            raise ArgumentError(
                f"consistency must be matched, band, naive or off, got {self.consistency!r}"
            )
        if self.preset_name not in PRESETS:
            raise ArgumentError(
                f"preset must be one of {', '.join(PRESETS)}, got {self.preset_name!r}"
            )
        if self.size is not None:
            self._check_size(*self.size)
        if self.name is not None and self.name != Path(self.name).name:
            raise ArgumentError(f"name must be a name, not a path, got {self.name!r}")
        if self.seed < 0:
            raise ArgumentError(f"seed must be at least 0, got {self.seed}")
        if self.minutes is not None and self.steps is not None:
            raise ArgumentError("minutes and steps say the same: give one of them")
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            raise ArgumentError(f"minutes must be above 0, got {self.minutes:g}")
        if self.steps is not None and self.steps < 1:
            raise ArgumentError(f"steps must be at least 1, got {self.steps}")
        for stage in self.stages or ():
            if stage not in STAGES:
                raise ArgumentError(f"stages must be among {', '.join(STAGES)}, got {stage!r}")

    def _check_size(self, height: int, width: int) -> None:
        if self.init is not None:
            raise ArgumentError("size is that of the world to go on from (init): give one of them")
        patch = self.preset.tokenizer.patch
        if any(side < patch or side % patch for side in (height, width)):
            raise ArgumentError(f"size must be multiples of {patch}, got {width}x{height}")

    @property
    def preset(self) -> Preset:
        return PRESETS[self.preset_name]

    @property
    def learns_actions(self) -> bool:
        return self.actions != "labelled"

    @property
    def judged(self) -> Kind | None:
        """How the dynamics' samples are judged, if it is trained at all."""
        return self.consistency if self.consistency != "off" and self.may("dynamics") else None

    def may(self, stage: str) -> bool:
        """Whether the stage runs, if it is of use."""
        return self.stages is None or stage in self.stages

    def asks_for(self, stage: str) -> bool:
        """Whether the stage was named."""
        return self.stages is not None and stage in self.stages
