"""Plays episodes by script and writes them: what `worldsim record` does.

Half of the time is recorded in invulnerable episodes of 8,000 tics or more (long memory needs long
footage), half in ordinary ones that end in death. Episodes take the seeds S, S+1, ... in order,
and whichever mode is behind records next, so the same arguments give the same files.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worldsim.data.writer import RecordingWriter
from worldsim.errors import DataError, MachineError
from worldsim.games.doom import DoomGame, check_sound, versions
from worldsim.games.policy import Player
from worldsim.games.scene import Scene, Thing
from worldsim.games.table import CONTROLS, FPS, FRAME_SIZE, GAMES, SAMPLE_RATE

LONG_EPISODE = 8_000  # tics
SHORTEST = 35  # tics; a remainder below a second is not worth an episode


@dataclass(kw_only=True)
class Summary:
    """What was recorded."""

    frames: int = 0
    episodes: int = 0
    deaths: int = 0
    seconds: float = 0.0  # wall clock
    controls: Counter[int] = field(default_factory=Counter)

    def shares(self) -> dict[str, float]:
        """The fraction of tics of each control."""
        total = max(1, sum(self.controls.values()))
        return {name: self.controls[i] / total for i, name in enumerate(CONTROLS)}


def plan_modes(tics: int) -> dict[str, list[int]]:
    """Longest length in tics of each episode to come, per mode; ordinary ones share one budget."""
    half = tics // 2
    episodes = max(1, half // LONG_EPISODE)
    lengths = [half // episodes + (i < half % episodes) for i in range(episodes)]
    return {"invulnerable": lengths, "ordinary": [tics - half]}


def record(
    game: str,
    directory: Path,
    *,
    minutes: float,
    seed: int,
    policy: str = "mixture",
    report: Callable[[Path, Summary], None] = lambda path, summary: None,
) -> Summary:
    """Records `minutes` of game time into `directory`; `report` is called after each episode.

    Raises MachineError if ViZDoom or its sound is missing, DataError if `directory` cannot be
    made or has a file of the same name.
    """
    check_sound(game)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{directory}: not a folder to write into ({error.strerror})") from error
    plan = plan_modes(max(2 * SHORTEST, round(minutes * 60 * FPS)))
    long, ordinary_left = list(plan["invulnerable"]), plan["ordinary"][0]
    summary, done = Summary(), Counter({"invulnerable": 0, "ordinary": 0})
    start = time.perf_counter()
    while long or ordinary_left >= SHORTEST:
        behind = done["invulnerable"] <= done["ordinary"]
        is_long = bool(long) and (behind or ordinary_left < SHORTEST)
        mode, limit = ("invulnerable", long.pop(0)) if is_long else ("ordinary", ordinary_left)
        path = directory / f"{game}-{seed + summary.episodes:06d}.mkv"
        frames = record_episode(path, game, mode, seed + summary.episodes, limit, policy, summary)
        done[mode] += frames
        ordinary_left -= 0 if is_long else frames
        summary.seconds = time.perf_counter() - start
        report(path, summary)
    return summary


def record_episode(
    path: Path, game: str, mode: str, seed: int, limit: int, policy: str, summary: Summary
) -> int:
    """Records one episode of at most `limit` frames, adds it to `summary`, returns its length."""
    if path.exists() or path.with_suffix(".jsonl").exists():
        raise DataError(f"{path}: exists already; choose another --out or --seed")
    header = header_of(game, mode, seed, policy)
    loud = False
    with (
        DoomGame(game, mode) as doom,
        RecordingWriter(path, header, size=FRAME_SIZE) as writer,
    ):
        scene = doom.start(seed)
        player = Player(policy, seed, doom.walls(), scene)
        control, frames = None, 0
        while True:
            upcoming = player.control
            following = doom.tic(upcoming) if frames + 1 < limit else None
            frames += 1
            died = following is None and frames < limit and doom.is_dead
            line = line_of(scene, control, reset=control is None, death=died)
            writer.write(scene.frame, scene.sound, line)
            loud = loud or bool(scene.sound.any())
            if following is None:
                break
            summary.controls[upcoming] += 1
            scene, control = following, upcoming
            player.see(scene)
    if not loud and frames > LONG_EPISODE // 2:
        raise MachineError(f"{path}: the sound of the whole episode is zero")
    summary.frames += frames
    summary.episodes += 1
    summary.deaths += int(died)
    return frames


def header_of(game: str, mode: str, seed: int, policy: str) -> dict[str, Any]:
    """The first line of a side file."""
    return {
        "format": "worldsim-recording",
        "format_version": 1,
        "game": game,
        "map": GAMES[game].config,
        "mode": mode,
        "seed": seed,
        "policy": policy,
        "versions": versions(),
        "fps": FPS,
        "sample_rate": SAMPLE_RATE,
        "channels": "mono: mean of left and right",
        "controls": list(CONTROLS),
    }


def line_of(scene: Scene, control: int | None, *, reset: bool, death: bool) -> dict[str, Any]:
    """The line of one frame; `death` marks the last frame before the player lay dead."""
    return {
        "control": control,
        "reset": reset,
        "death": death,
        "pose": [round(scene.x, 2), round(scene.y, 2), round(scene.angle, 2)],
        "objects": [thing_of(thing) for thing in scene.things],
    }


def thing_of(thing: Thing) -> dict[str, Any]:
    """One entry of `objects`; box is x, y, width, height in pixels, null out of view."""
    return {
        "id": thing.id,
        "class": thing.name,
        "position": [round(value, 1) for value in thing.position],
        "box": list(thing.box) if thing.box else None,
        "in_view": thing.box is not None,
    }
