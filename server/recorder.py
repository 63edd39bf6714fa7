"""Records a game as it is played: NAME.mkv and NAME.jsonl, in the format of `worldsim record`.

One episode is one file: a start, a load or a rewind begins the next one. Frames go through a thread
of their own; should it ever fall behind, the frames that it misses end an episode too, so that
every control in the files led from the line before to its own. A full disk ends the recording, not
the game.

Frames reach the disk one by one, so that a file is playable even if this process was killed. The
line of a frame is written before it; `mend` cuts what a killed process left too long.
"""

import json
import logging
import os
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np

from worldsim import __version__
from worldsim.data.recording import FORMAT, FORMAT_VERSION, side_file
from worldsim.data.video import UNREADABLE, open_video
from worldsim.data.writer import VideoWriter
from worldsim.errors import WorldsimError
from worldsim.provenance import notice, video_tags
from worldsim.server.engine import Shown
from worldsim.signing import Signer

log = logging.getLogger("worldsim.server")

WAITING = 256  # frames that may wait for the disk
SHORTEST = 2  # frames; less is no episode


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is recorded: a world, at a rate, in a game with an id."""

    world: str
    world_hash: str
    game: str
    seed: int
    fps: float
    size: tuple[int, int]  # (H, W), even
    sample_rate: float | None  # Hz
    controls: list[str]
    signer: Signer | None = None  # of the videos
    axes: list[str] = field(default_factory=list)  # in place of controls

    def header(self) -> dict[str, Any]:
        """The first line of a side file; see worldsim.data.recording.Header."""
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "game": self.world,
            "map": self.world_hash[:12],
            "mode": "ordinary",
            "seed": self.seed,
            "policy": "player",
            "versions": {"worldsim": __version__},
            "fps": self.fps,
            "sample_rate": round(self.sample_rate or 0),
            "channels": "none" if self.sample_rate is None else "mono",
            "controls": self.controls,
            **({"axes": self.axes} if self.axes else {}),
            "ai_generated": True,
        }


class Episode:
    """One video with its side file, open for writing."""

    def __init__(self, path: Path, subject: Subject) -> None:
        """`path` ends in .mkv. Raises OSError or av.FFmpegError, as `add` and `close` do."""
        self.frames = 0
        self.path = path
        self._subject = subject
        self._marker = marker(path)
        self._marker.write_text(str(os.getpid()), encoding="ascii")
        self._video = VideoWriter(
            path,
            size=subject.size,
            fps=subject.fps,
            sample_rate=None if subject.sample_rate is None else round(subject.sample_rate),
            is_live=True,
            metadata=video_tags(notice(subject.world, subject.world_hash)),
        )
        self._side = side_file(path).open("w", encoding="ascii", buffering=1)
        self._line(subject.header())

    def add(self, shown: Shown) -> None:
        """Append a frame; the first one has no control that led to it."""
        is_first = self.frames == 0
        action = None if is_first else shown.action
        axes = {"axes": list(action)} if isinstance(action, tuple) else {}
        self._line(
            {
                "control": None if axes else action,
                **axes,
                "reset": is_first,
                "death": False,
                "pose": [0, 0, 0],
                "objects": [],
            }
        )
        sound = None
        if shown.sound is not None:
            sound = (np.clip(shown.sound, -1.0, 1.0) * 32767.0).round().astype(np.int16)
        self._video.write(shown.frame, sound)
        self.frames += 1

    def close(self) -> None:
        """Finish both files and sign the video; one that is too short to be an episode is taken
        away. What a killed process left is mended, but nobody signs for it."""
        self._side.close()
        self._video.close()
        if self.frames < SHORTEST:
            self.path.unlink()
            side_file(self.path).unlink()
        elif (signer := self._subject.signer) is not None:
            world, of = self._subject.world, self._subject.world_hash
            signer.sign(self.path, "video/x-matroska", world=world, world_hash=of)
        self._marker.unlink()

    def abandon(self) -> None:
        """Close after an error, and make the two files agree as far as the disk allows."""
        for close in (self._side.close, self._video.abandon):
            try:
                close()
            except (OSError, av.FFmpegError) as error:
                log.debug("closing %s: %s", self.path.name, error)
        _mend(self.path)

    def _line(self, values: Mapping[str, Any]) -> None:
        self._side.write(json.dumps(values, separators=(",", ":")) + "\n")


class Recorder:
    """The recording of one game, from `record` on to `record` off."""

    def __init__(self, folder: Path, subject: Subject, ended: Callable[[str], None]) -> None:
        """`ended` is called, on the recorder's thread, with the reason if it has to give up.

        Raises OSError if there can be no files in `folder`.
        """
        folder.mkdir(parents=True, exist_ok=True)
        taken = {path.name.split(".")[0].rpartition("-")[0] for path in folder.glob("*.mkv")}
        base = f"{subject.world}-{subject.game}"
        number = next(n for n in range(1, 10**6) if f"{base}-{n}" not in taken)
        self.name = f"{base}-{number}"
        self._folder, self._subject, self._ended = folder, subject, ended
        self._queue: queue.Queue[Shown | str] = queue.Queue(WAITING)
        self._has_gap = False
        self._thread = threading.Thread(target=self._run, name="worldsim-recorder", daemon=True)
        self._thread.start()

    def add(self, shown: Shown) -> None:
        """Take a frame; never waits."""
        try:
            if self._has_gap:
                self._queue.put_nowait("cut")
                self._has_gap = False
            self._queue.put_nowait(shown)
        except queue.Full:
            self._has_gap = True

    def cut(self) -> None:
        """What follows is another episode."""
        self._has_gap = True

    def stop(self) -> None:
        """Finish the files; returns when they are."""
        self._queue.put("stop")
        self._thread.join()

    def _run(self) -> None:
        episode: Episode | None = None
        number = 0
        item: Shown | str = ""
        try:
            while (item := self._queue.get()) != "stop":
                if isinstance(item, str):
                    if episode is not None:
                        episode.close()
                    episode = None
                    continue
                if episode is None:
                    number += 1
                    path = self._folder / f"{self.name}-{number:04d}.mkv"
                    episode = Episode(path, self._subject)
                episode.add(item)
            if episode is not None:
                episode.close()
        except (OSError, av.FFmpegError, WorldsimError) as error:
            if episode is not None:
                episode.abandon()
            self._ended(getattr(error, "strerror", None) or str(error))
            while item != "stop":  # so that nobody waits for this thread
                item = self._queue.get()


def marker(path: Path) -> Path:
    """The hidden file that stands beside a recording while it is written."""
    return path.with_name(f".{path.stem}.open")


def mend(folder: Path) -> list[Path]:
    """Make recordings whole that a killed process left: as many lines as frames. Which ones."""
    left = [path for path in sorted(folder.glob(".*.open")) if not _is_held(path)]
    videos = [folder / f"{path.name[1:].removesuffix('.open')}.mkv" for path in left]
    return [video for video in videos if _mend(video)]


def _mend(path: Path) -> bool:
    frames, side = _count_frames(path), side_file(path)
    is_episode = frames >= SHORTEST and side.is_file()
    if is_episode:
        lines = side.read_bytes().splitlines(keepends=True)[: frames + 1]
        side.write_bytes(b"".join(line for line in lines if line.endswith(b"\n")))
    else:
        path.unlink(missing_ok=True)
        side.unlink(missing_ok=True)
    marker(path).unlink(missing_ok=True)
    return is_episode


def _is_held(left: Path) -> bool:
    """Whether the process that wrote the marker lives."""
    try:
        os.kill(int(left.read_text(encoding="ascii")), 0)
    except (ValueError, OSError):
        return False
    return True


def _count_frames(path: Path) -> int:
    """Of a video, as far as it can be read."""
    count = 0
    try:
        with open_video(path) as container:
            for _ in container.decode(video=0):
                count += 1
    except (*UNREADABLE, IndexError) as error:
        log.debug("%s ends early: %s", path.name, error)
    return count
