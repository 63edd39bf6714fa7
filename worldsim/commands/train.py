"""`worldsim train`: a folder of videos in, a world folder out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a world on a folder of videos; the world folder is OUT/world."""

    videos: tyro.conf.Positional[Path]
    """Folder with mp4, mkv, webm or avi files; for labelled actions, NAME.jsonl beside each."""
    out: Path
    """Run folder: plan.json, metrics.jsonl, checkpoints, cache and the world."""
    preset: Literal["default", "small", "base", "large"] = "default"
    """How large the world is: default takes hours to learn, small two minutes."""
    minutes: float | None = None
    """Minutes to train, from a short measurement of this machine (default: 60, small 2)."""
    steps: int | None = None
    """Updates of all stages together, instead of minutes."""
    actions: Literal["learned", "labelled", "few"] = "learned"
    """learned: from the frames alone; labelled: from side files; few: learned, then named by
    a few labelled frames in LABELS."""
    labels: Path | None = None
    """With --actions few: folder of recordings with side files, of which 200 frames are used."""
    init: str | None = None
    """World to continue from: a folder or a shipped name."""
    size: Annotated[str | None, tyro.conf.arg(metavar="WxH")] = None
    """Frame size in pixels, multiples of 16 (default: what fits the footage)."""
    name: str | None = None
    """Name of the world (default: the run folder's)."""
    stages: (
        tuple[Literal["tokenizer", "actions", "objects", "dynamics", "sound", "features"], ...]
        | None
    ) = None
    """Only these; with --init the others stay as they are (default: all that are of use)."""
    features: str | None = None
    """What the alarm and --consistency learn from: a file or a model on a hub, or own (learned
    from the videos); default: what `worldsim data features` converted, if it did."""
    consistency: Literal["matched", "band", "naive", "off"] = "off"
    """How the dynamics' samples must change in those features: as the real clip does, within what
    is usual for the action, not at all (which freezes the video), or anyhow."""
    device: str = "cpu"
    """Where to train: cpu, cuda, .."""
    threads: int = 1
    """Intra-op threads on a CPU."""
    seed: int = 0
    """Of the weights and of the order of the footage."""
    resume: bool = False
    """Go on with the run in OUT from its last checkpoint."""
    strict: bool = False
    """With --resume: fail if the newest checkpoint is damaged, instead of using the one before."""
    checkpoint_every: float = 300.0
    """Seconds between checkpoints."""
    track: Literal["tensorboard", "trackio", "wandb"] | None = None
    """Show the curves there too, beside OUT/metrics.jsonl (extra `track`)."""

    def __post_init__(self) -> None:
        if (self.actions == "few") != (self.labels is not None):
            raise ValueError("--actions few and --labels DIR belong together")

    def run(self) -> int:
        from worldsim.runtime import keep_memory, prepare

        prepare(threads=self.threads)
        keep_memory()
        from worldsim.training.run import train

        train(
            self.videos,
            self.out,
            minutes=self.minutes,
            steps=self.steps,
            actions=self.actions,
            labels=self.labels,
            init=self.init,
            preset=self.preset,
            size=_parse_size(self.size),
            device=self.device,
            resume=self.resume,
            seed=self.seed,
            name=self.name,
            stages=self.stages,
            strict=self.strict,
            checkpoint_every=self.checkpoint_every,
            features=self.features,
            consistency=self.consistency,
            track=self.track,
        )
        return 0


def _parse_size(text: str | None) -> tuple[int, int] | None:
    """ "128x96" -> (96, 128), rows first."""
    if text is None:
        return None
    width, separator, height = text.partition("x")
    if not separator or not width.isdigit() or not height.isdigit():
        raise SystemExit(f"--size must look like 128x96, got {text!r}")
    return int(height), int(width)
