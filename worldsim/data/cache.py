"""Frames of many videos, at one size and one rate, kept as memory-mapped arrays.

A cache folder holds one NAME.npy, uint8 (T, H, W, 3), per source file, and index.json with the
source's hash, its frames and its rate; where frames were dropped or repeated, NAME.source.npy says
which ones stayed. What is unchanged is used again; what is not is read anew.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np
from numpy.lib.format import write_array_header_1_0
from numpy.typing import NDArray

from worldsim.data.timing import at_rate
from worldsim.data.video import frame_to_size, iterate_timed, open_video
from worldsim.errors import DataError

INDEX = "index.json"
FORMAT_VERSION = 2  # raise it when frames of the same file come out differently


class Entry(msgspec.Struct, frozen=True):
    """One cached file."""

    source: str
    source_hash: str  # sha256 of the file, hex
    shard: str  # file name inside the cache folder
    frames: int
    fps: float
    size: tuple[int, int]  # pixels, (H, W)


class Index(msgspec.Struct, frozen=True):
    """What index.json holds."""

    format_version: int
    entries: list[Entry]


@dataclass(frozen=True, kw_only=True, eq=False)
class Cached:
    """One video."""

    name: str  # says which file it was, and at what size and rate: equal names, equal frames
    frames: NDArray[np.uint8]  # (T, H, W, 3), a read-only memory map
    source: NDArray[np.int64]  # (T,), index in the file of each frame


class FrameCache:
    """A cache folder; one process at a time."""

    def __init__(self, directory: Path) -> None:
        """DataError if `directory` holds an index that is not one."""
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._known = {entry.shard: entry for entry in read_index(directory)}

    def get(self, path: Path, size: tuple[int, int], fps: float | None = None) -> Cached:
        """The frames of a video at `size` = (H, W), all of them or, with `fps`, at that rate.

        Raises DataError, naming the file, if it cannot be read to its end.
        """
        digest = file_hash(path)
        rate = "" if fps is None else f"-{fps:.6g}"
        name = f"{digest[:24]}-{size[0]}x{size[1]}{rate}"
        entry = self._known.get(f"{name}.npy")
        if entry is None or not (self._directory / entry.shard).is_file():
            entry = _add(path, digest, f"{name}.npy", size, fps, self._directory)
            self._known[entry.shard] = entry
            # After every file: an interrupted build keeps what it has done.
            _write_index(self._directory, self._known)
        frames = open_shard(self._directory, entry)
        return Cached(name=name, frames=frames, source=_source(self._directory, entry))


def read_index(directory: Path) -> list[Entry]:
    """The entries of a cache folder; none if it is new or of another version."""
    path = directory / INDEX
    if not path.is_file():
        return []
    try:
        index = msgspec.json.decode(path.read_bytes(), type=Index)
    except msgspec.DecodeError as error:
        raise DataError(f"{path}: not a cache index ({error}); delete the folder") from error
    return index.entries if index.format_version == FORMAT_VERSION else []


def open_shard(directory: Path, entry: Entry) -> NDArray[np.uint8]:
    """The frames of an entry; DataError if the file is not what the index says."""
    path = directory / entry.shard
    try:
        frames: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: damaged cache file ({error}); delete it") from error
    if frames.shape != (entry.frames, *entry.size, 3) or frames.dtype != np.uint8:
        raise DataError(f"{path}: damaged cache file, shape {frames.shape}; delete it")
    return frames


def file_hash(path: Path) -> str:
    """sha256 of a file's content, hex; DataError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def _add(
    path: Path, digest: str, shard: str, size: tuple[int, int], fps: float | None, directory: Path
) -> Entry:
    unfinished = directory / f"{shard}.{os.getpid()}.part"
    try:
        with unfinished.open("wb") as file:
            source = _write_frames(file, path, size, fps)
        if not source:
            raise DataError(f"{path}: holds no frames")
        if source != list(range(len(source))):
            np.save(_source_file(directory, shard), np.array(source, dtype=np.int64))
        unfinished.replace(directory / shard)
    except OSError as error:
        raise DataError(f"{path}: its frames cannot be kept ({error})") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return Entry(
        source=str(path),
        source_hash=digest,
        shard=shard,
        frames=len(source),
        fps=frame_rate(path) if fps is None else fps,
        size=size,
    )


def _write_frames(
    file: BinaryIO, path: Path, size: tuple[int, int], fps: float | None
) -> list[int]:
    """Appends the frames behind an .npy header, which numpy pads so that its count can grow;
    returns which ones they were."""
    _write_header(file, 0, size)
    start = file.tell()
    timed = iterate_timed(path)
    chosen = enumerate(p for _, p in timed) if fps is None else at_rate(timed, fps)
    source = []
    for index, picture in chosen:
        file.write(frame_to_size(picture, size).tobytes())
        source.append(index)
    file.seek(0)
    _write_header(file, len(source), size)
    assert file.tell() == start, "the header must not change its length"
    return source


def _source_file(directory: Path, shard: str) -> Path:
    return directory / f"{Path(shard).stem}.source.npy"


def _source(directory: Path, entry: Entry) -> NDArray[np.int64]:
    path = _source_file(directory, entry.shard)
    if not path.is_file():
        return np.arange(entry.frames)
    try:
        source: NDArray[np.int64] = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: damaged cache file ({error}); delete it") from error
    if source.shape != (entry.frames,):
        raise DataError(f"{path}: damaged cache file, shape {source.shape}; delete it")
    return source


def _write_header(file: BinaryIO, count: int, size: tuple[int, int]) -> None:
    shape = (count, *size, 3)
    write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


def frame_rate(path: Path) -> float:
    """Frames per second of a video's first stream, averaged; 0 if it does not say."""
    with open_video(path) as container:
        return float(container.streams.video[0].average_rate or 0)


def _write_index(directory: Path, known: dict[str, Entry]) -> None:
    index = Index(format_version=FORMAT_VERSION, entries=list(known.values()))
    unfinished = directory / f"{INDEX}.{os.getpid()}.part"
    unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(index), indent=1))
    unfinished.replace(directory / INDEX)
