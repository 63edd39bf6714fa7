"""What a run was asked for: the arguments of `worldsim train`, checked."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from worldsim.training.consistency import Kind
from worldsim.training.plan import STAGES
from worldsim.training.presets import PRESETS, Preset

Actions = Literal["learned", "labelled", "few"]


@dataclass(frozen=True, kw_only=True)
class Request:
    """See `worldsim.training.run.train`. Raises ValueError, which names the argument."""

    videos: Path
    run: Path
    actions: Actions
    labels: Path | None
    init: str | Path | None
    preset_name: str
    size: tuple[int, int] | None
    device: str
    seed: int
    name: str | None
    stages: Sequence[str] | None
    features: str | None
    consistency: Kind | Literal["off"]

    def __post_init__(self) -> None:
        known = get_args(Actions)
        if self.actions not in known:
            raise ValueError(f"actions must be one of {', '.join(known)}, got {self.actions!r}")
        if (self.actions == "few") != (self.labels is not None):
            raise ValueError(
                "labels is a folder of recordings, for actions='few' and only for that"
            )
        if self.consistency not in (*get_args(Kind), "off"):
            raise ValueError(
                f"consistency must be matched, band, naive or off, got {self.consistency!r}"
            )
        if self.preset_name not in PRESETS:
            raise ValueError(
                f"preset must be one of {', '.join(PRESETS)}, got {self.preset_name!r}"
            )
        for stage in self.stages or ():
            if stage not in STAGES:
                raise ValueError(f"stages must be among {', '.join(STAGES)}, got {stage!r}")

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
