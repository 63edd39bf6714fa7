"""Plays episodes by script and writes them: what `worldsim record` does.

Half of the time is recorded in invulnerable episodes of 8,000 tics or more (long memory needs long
footage), half in ordinary ones that end in death; a game may have ordinary ones only. Episodes take
the seeds S, S+1, ... in order, and whichever mode is behind records next, so the same arguments
give the same files.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worldsim.data.writer import RecordingWriter
from worldsim.errors import DataError, MachineError
from worldsim.games.bionic import BionicGame, require_bionic
from worldsim.games.doom import DoomGame, check_sound
from worldsim.games.scene import Scene, Thing
from worldsim.games.table import GAMES, MODES, Control

LONG_EPISODE = 8_000  # tics
BIONIC_BLUE = "bionic-blue"
SHORTEST = 35  # tics; a remainder below a second is not worth an episode


@dataclass(kw_only=True)
class Summary:
    """What was recorded."""

    frames: int = 0
    episodes: int = 0
    deaths: int = 0
    seconds: float = 0.0  # wall clock
    controls: Counter[Control] = field(default_factory=Counter)
    names: tuple[str, ...] = ()  # of the controls; none if they are axes

    def shares(self) -> dict[str, float]:
        """The fraction of tics of each control."""
        total = max(1, sum(self.controls.values()))
        return {name: self.controls[i] / total for i, name in enumerate(self.names)}


def plan_modes(tics: int, modes: Sequence[str] = MODES) -> dict[str, list[int]]:
    """Longest length in tics of each episode to come, per mode; ordinary ones share one budget."""
    if "invulnerable" not in modes:
        return {"invulnerable": [], "ordinary": [tics]}
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

    Raises MachineError if the game or its sound is missing, DataError if `directory` cannot be
    made or has a file of the same name.
    """
    spec = GAMES[game]
    if policy not in spec.policies:
        raise DataError(f"{game} has no policy {policy!r}; it has {', '.join(spec.policies)}")
    if game == BIONIC_BLUE:
        require_bionic()
    else:
        check_sound(game)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{directory}: not a folder to write into ({error.strerror})") from error
    plan = plan_modes(max(2 * SHORTEST, round(minutes * 60 * spec.fps)), spec.modes)
    long, ordinary_left = list(plan["invulnerable"]), plan["ordinary"][0]
    summary, done = Summary(names=spec.controls), Counter({"invulnerable": 0, "ordinary": 0})
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
    loud = False
    with (
        open_game(game, mode) as running,
        RecordingWriter(
            path,
            header_of(game, mode, seed, policy, running.versions()),
            size=GAMES[game].frame_size,
        ) as writer,
    ):
        scene = running.start(seed)
        player = running.player(policy, seed, scene)
        control: Control | None = None
        frames = 0
        while True:
            upcoming = player.control
            following = running.tic(upcoming) if frames + 1 < limit else None
            frames += 1
            died = following is None and frames < limit and running.is_dead
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


def open_game(game: str, mode: str) -> DoomGame | BionicGame:
    """The game of that name, not started yet; a context manager."""
    return BionicGame(game, mode) if game == BIONIC_BLUE else DoomGame(game, mode)


def header_of(
    game: str, mode: str, seed: int, policy: str, versions: dict[str, str]
) -> dict[str, Any]:
    """The first line of a side file."""
    spec = GAMES[game]
    return {
        "format": "worldsim-recording",
        "format_version": 1,
        "game": game,
        "map": spec.config,
        "mode": mode,
        "seed": seed,
        "policy": policy,
        "versions": versions,
        "fps": spec.fps,
        "sample_rate": spec.sample_rate,
        "channels": "mono: mean of left and right",
        "controls": list(spec.controls),
        **({"axes": list(spec.axes)} if spec.axes else {}),
    }


def line_of(scene: Scene, control: Control | None, *, reset: bool, death: bool) -> dict[str, Any]:
    """The line of one frame; `death` marks the last frame before the player lay dead."""
    axes = {"axes": list(control)} if isinstance(control, tuple) else {}
    return {
        "control": None if axes else control,
        **axes,
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
