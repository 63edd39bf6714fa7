"""Looks at every file of a folder and says what it is, or why it cannot be used; never stops.

Frames are counted by reading packets, not by decoding them, so a scan costs little more than
reading the files; the first two frames are decoded to see that this works.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import av
from av.container import InputContainer

from worldsim.data.video import UNREADABLE, open_video
from worldsim.errors import DataError

SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v")
BESIDE = (".jsonl", ".c2pa")  # what may lie beside a video, by its name
SHORTFALL = 0.9  # share of the announced duration below which a file counts as truncated


@dataclass(frozen=True, kw_only=True)
class ScanResult:
    """One file: usable if `ok`, else `reason` says why not; unknown figures are None."""

    path: str
    ok: bool
    reason: str | None = None
    frames: int | None = None
    fps: float | None = None  # frames per second, averaged over the file
    size: tuple[int, int] | None = None  # pixels, (H, W)
    has_audio: bool | None = None


def scan(
    directory: str | Path, report: Callable[[ScanResult], None] = lambda result: None
) -> list[ScanResult]:
    """One result per file below `directory`, by name, also where a link leads; side files of videos
    are left out. A folder that cannot be read is a result, too.

    Raises DataError if `directory` is not a folder; nothing else.
    """
    root = Path(directory)
    if not root.is_dir():
        raise DataError(f"{root}: not a folder; give a folder of videos")
    results = []
    closed: dict[Path, OSError] = {}
    for path in sorted([*_files(root, closed), *closed]):
        result = _unusable(path, _words(closed[path])) if path in closed else scan_file(path)
        results.append(result)
        report(result)
    return results


def _files(root: Path, closed: dict[Path, OSError]) -> Iterator[Path]:
    """All files below `root` that are looked at, a folder that several links lead to once; folders
    that cannot be read go into `closed`."""

    def skip(error: OSError) -> None:
        closed[Path(error.filename)] = error

    seen = set()
    for here, folders, names in os.walk(root, onerror=skip, followlinks=True):
        state = os.stat(here)
        if (state.st_dev, state.st_ino) in seen:
            folders.clear()
            continue
        seen.add((state.st_dev, state.st_ino))
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        yield from (p for n in names if not _is_beside(p := Path(here, n), root))


def _is_beside(path: Path, root: Path) -> bool:
    """True for hidden files and for the side file and the signature of a video."""
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    return hidden or (
        path.suffix in BESIDE and any(path.with_suffix(s).is_file() for s in SUFFIXES)
    )


def scan_file(path: Path) -> ScanResult:
    """What one file is; never raises for what the file holds."""
    if path.suffix.lower() not in SUFFIXES:
        known = " ".join(SUFFIXES)
        return _unusable(path, f"not a video by its name ({path.suffix or 'no suffix'}; {known})")
    if not path.is_file():
        leads = path.is_symlink() and not path.exists()
        return _unusable(path, "a link that leads nowhere" if leads else "no regular file")
    try:
        if path.stat().st_size == 0:
            return _unusable(path, "empty file")
        with open_video(path) as container:
            return _look(path, container)
    except UNREADABLE as error:
        # A cut mp4 lacks its table of contents, which FFmpeg reports as invalid data.
        return _unusable(path, f"unreadable, truncated or not a video ({_words(error)})")


def _look(path: Path, container: InputContainer) -> ScanResult:
    has_audio = bool(container.streams.audio)
    if not container.streams.video:
        return _unusable(path, "no video stream", has_audio=has_audio)
    stream = container.streams.video[0]
    first = list(islice(container.decode(stream), 2))
    decoded = len(first)
    if decoded < 2:
        reason = "one frame: a world needs at least two" if decoded else "no frame can be decoded"
        return _unusable(path, reason, frames=decoded, has_audio=has_audio)
    fps = float(stream.average_rate or stream.guessed_rate or 0)
    lies = round(first[0].rotation / 90) % 2 == 1  # a phone that was held upright
    size = (stream.width, stream.height) if lies else (stream.height, stream.width)
    container.seek(0)
    packets = [packet for packet in container.demux(stream) if packet.size]
    frames = len(packets)
    unit = float(stream.time_base or 0)  # seconds
    announced = (stream.duration or 0) * unit or (container.duration or 0) / av.time_base
    ends = [(p.pts + (p.duration or 0)) * unit for p in packets if p.pts is not None]
    readable = max(ends, default=announced) - (stream.start_time or 0) * unit
    if any(p.is_corrupt for p in packets) or readable < SHORTFALL * announced:
        reason = f"truncated: {readable:.1f} s of {announced:.1f} s can be read"
        return _unusable(path, reason, frames=frames, has_audio=has_audio)
    if fps <= 0:
        return _unusable(path, "no frame rate", frames=frames, has_audio=has_audio)
    return ScanResult(
        path=str(path), ok=True, frames=frames, fps=fps, size=size, has_audio=has_audio
    )


def _unusable(
    path: Path, reason: str, *, frames: int | None = None, has_audio: bool | None = None
) -> ScanResult:
    return ScanResult(path=str(path), ok=False, reason=reason, frames=frames, has_audio=has_audio)


def _words(error: Exception) -> str:
    """The error without the path, which the result names already."""
    return str(getattr(error, "strerror", None) or error)
