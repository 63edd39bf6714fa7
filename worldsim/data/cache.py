"""Frames of many videos, resized once and kept as memory-mapped arrays.

A cache folder holds one NAME.npy, uint8 (T, H, W, 3), per source file, and index.json with the
source's hash, its frames and its rate. What is unchanged is used again; what is not is read anew.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

import av
import msgspec
import numpy as np
from numpy.lib.format import write_array_header_1_0
from numpy.typing import NDArray

from worldsim.data.video import iterate_frames
from worldsim.errors import DataError

INDEX = "index.json"
FORMAT_VERSION = 1  # raise it when frames of the same file come out differently


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


def build_cache(
    files: Sequence[Path],
    size: tuple[int, int],
    directory: Path,
    progress: Callable[[int, int, Path], None] = lambda done, total, path: None,
) -> list[NDArray[np.uint8]]:
    """One read-only memory map uint8 (T, H, W, 3) per file, in order, at `size` = (H, W).

    `progress(done, total, path)` is called before each file. Raises DataError, naming the file,
    if one cannot be read to its end: scan first.
    """
    directory.mkdir(parents=True, exist_ok=True)
    known = {entry.shard: entry for entry in read_index(directory)}
    arrays = []
    for done, path in enumerate(files):
        progress(done, len(files), path)
        digest = file_hash(path)
        shard = f"{digest[:24]}-{size[0]}x{size[1]}.npy"
        entry = known.get(shard)
        if entry is None or not (directory / shard).is_file():
            entry = _add(path, digest, shard, size, directory)
            known[shard] = entry
            # After every file: an interrupted build keeps what it has done.
            _write_index(directory, known)
        arrays.append(open_shard(directory, entry))
    return arrays


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


def _add(path: Path, digest: str, shard: str, size: tuple[int, int], directory: Path) -> Entry:
    unfinished = directory / f"{shard}.{os.getpid()}.part"
    try:
        with unfinished.open("wb") as file:
            count = _write_frames(file, path, size)
        if count == 0:
            raise DataError(f"{path}: holds no frames")
        unfinished.replace(directory / shard)
    finally:
        unfinished.unlink(missing_ok=True)
    return Entry(
        source=str(path),
        source_hash=digest,
        shard=shard,
        frames=count,
        fps=frame_rate(path),
        size=size,
    )


def _write_frames(file: BinaryIO, path: Path, size: tuple[int, int]) -> int:
    """Appends all frames behind an .npy header, which numpy pads so that its count can grow."""
    _write_header(file, 0, size)
    start, count = file.tell(), 0
    for frame in iterate_frames(path, size):
        file.write(frame.tobytes())
        count += 1
    file.seek(0)
    _write_header(file, count, size)
    assert file.tell() == start, "the header must not change its length"
    return count


def _write_header(file: BinaryIO, count: int, size: tuple[int, int]) -> None:
    shape = (count, *size, 3)
    write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


def frame_rate(path: Path) -> float:
    """Frames per second of a video's first stream, averaged; 0 if it does not say."""
    with av.open(str(path)) as container:
        return float(container.streams.video[0].average_rate or 0)


def _write_index(directory: Path, known: dict[str, Entry]) -> None:
    index = Index(format_version=FORMAT_VERSION, entries=list(known.values()))
    unfinished = directory / f"{INDEX}.{os.getpid()}.part"
    unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(index), indent=1))
    unfinished.replace(directory / INDEX)
