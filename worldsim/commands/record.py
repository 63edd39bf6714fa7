"""`worldsim record`: a real game, played by script, as videos to train on and to grade with."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

if TYPE_CHECKING:
    from worldsim.games.recorder import Summary


@dataclass(frozen=True, kw_only=True)
class Record:
    """Play a game by script and record it: NAME.mkv (with sound) and NAME.jsonl per episode.

    Of doom, half of the time is invulnerable and untimed, half are ordinary episodes that end in
    death; bionic-blue has ordinary ones only. The same seed gives the same files. Needs the extra
    [games], and the games of doom the system's libopenal1.
    """

    game: tyro.conf.Positional[
        Literal["doom-hall", "doom-hall-delta", "doom-maze", "doom-arena", "bionic-blue"]
    ]
    """Which game; doom-hall-delta is doom-hall by turns and speeds instead of keys."""
    out: Path = Path("recordings")
    """Folder to write into; files that exist are never overwritten."""
    minutes: float = 20.0
    """Minutes of game time in total (2,100 frames each of doom, 1,800 of bionic-blue)."""
    seed: int = 0
    """Seed of the first episode, 0 or more; the next ones take the seeds after it."""
    policy: Literal["mixture", "keys"] = "mixture"
    """Who plays: all behaviours in turn, or only held random keys."""

    def __post_init__(self) -> None:
        if not 0 < self.minutes <= 100_000:
            raise ValueError(f"--minutes must be > 0 and at most 100000, got {self.minutes}")
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"--seed must be 0..{2**31 - 1}, got {self.seed}")

    def run(self) -> int:
        """Record, say what came out, return the exit code."""
        from worldsim.games.recorder import record

        summary = record(
            self.game,
            self.out,
            minutes=self.minutes,
            seed=self.seed,
            policy=self.policy,
            report=say_episode,
        )
        shares = ", ".join(f"{name} {share:.0%}" for name, share in summary.shares().items())
        print(
            f"{summary.frames} frames in {summary.episodes} episodes ({summary.deaths} deaths) "
            f"at {summary.frames / summary.seconds:.0f} frames/s\n{shares}",
            file=sys.stderr,
        )
        return 0


def say_episode(path: Path, summary: "Summary") -> None:
    """One line per finished episode."""
    print(f"{path}: {summary.frames} frames so far", file=sys.stderr)
