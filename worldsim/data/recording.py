"""Reads the side file of a recording: what was pressed, and what was true, at every frame.

Line t describes frame t; its control is the one executed to get there from frame t - 1. `death`
marks the last frame that the player lived to see: the tic after it was fatal.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Self, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from worldsim.errors import DataError

FORMAT = "worldsim-recording"
FORMAT_VERSION = 1
T = TypeVar("T", bound=msgspec.Struct)
UNKNOWN = -1  # the control of a frame that no control led to


@dataclass(frozen=True, kw_only=True)
class Header:
    """First line of a side file: enough to play the episode again."""

    format: str
    format_version: int
    fps: float  # frames per second
    controls: tuple[str, ...] = ()  # names; a line's control is an index into them
    axes: tuple[str, ...] = ()  # names of continuous controls; a line has a float for each
    # of recorded games:
    game: str = ""
    map: str = ""
    mode: str = ""  # invulnerable or ordinary
    seed: int = 0
    policy: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    sample_rate: int | None = None  # Hz
    channels: str = ""


class Thing(msgspec.Struct, frozen=True):
    """One object of one frame; `box` is x, y, width, height in pixels, None out of view."""

    id: int
    name: str = msgspec.field(name="class")
    position: tuple[float, float, float]
    box: tuple[int, int, int, int] | None
    in_view: bool


class Line(msgspec.Struct, frozen=True):
    """One frame; `pose` is x, y in map units and the angle in degrees."""

    control: int | None
    reset: bool
    death: bool
    pose: tuple[float, float, float]
    objects: tuple[Thing, ...]


class Motion(msgspec.Struct, frozen=True):
    """A line without its objects, which most readers do not want and which are most of the text."""

    control: int | None = None
    axes: tuple[float, ...] | None = None
    reset: bool = False
    death: bool = False
    pose: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Recording:
    """A recorded episode without its pictures."""

    path: Path  # the video
    header: Header
    controls: NDArray[np.int64]  # (T,), UNKNOWN where no control led to the frame
    axes: NDArray[np.float64]  # (T, A), NaN where it is unknown what led to the frame
    resets: NDArray[np.bool_]  # (T,), first frame of an episode
    deaths: NDArray[np.bool_]  # (T,), last frame before the player lay dead
    poses: NDArray[np.float64]  # (T, 3): x, y in map units, angle in degrees

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """The recording whose video is `path`; DataError if its side file is missing or broken."""
        video = Path(path)
        side = side_file(video)
        lines = list(_decode(side, Motion))
        header = read_header(side)
        controls = np.array(
            [UNKNOWN if line.control is None else line.control for line in lines], dtype=np.int64
        )
        wrong = np.flatnonzero((controls < UNKNOWN) | (controls >= len(header.controls)))
        if wrong.size:
            raise DataError(
                f"{side}, line {wrong[0] + 2}: control must be < {len(header.controls)}, "
                f"got {controls[wrong[0]]}"
            )
        return cls(
            path=video,
            header=header,
            controls=controls,
            axes=_axes(side, header, lines),
            resets=np.array([line.reset for line in lines], dtype=np.bool_),
            deaths=np.array([line.death for line in lines], dtype=np.bool_),
            poses=np.array([line.pose for line in lines], dtype=np.float64).reshape(-1, 3),
        )

    def objects(self) -> list[tuple[Thing, ...]]:
        """The objects of every frame, read from the side file now."""
        return [line.objects for line in _decode(side_file(self.path), Line)]


def _axes(side: Path, header: Header, lines: list[Motion]) -> NDArray[np.float64]:
    """The floats of every line, (T, A)."""
    unknown = (float("nan"),) * len(header.axes)
    rows = [unknown if line.axes is None else line.axes for line in lines]
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header.axes):
            wanted = f"axes must be {len(header.axes)} floats"
            raise DataError(f"{side}, line {number}: {wanted}, got {len(row)}")
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(header.axes))


def side_file(video: Path) -> Path:
    """NAME.jsonl beside NAME.mkv."""
    return video.with_suffix(".jsonl")


def read_header(side: Path) -> Header:
    """The first line of a side file; DataError if it is not one of ours."""
    with _open(side) as file:
        line = file.readline()
    try:
        header = msgspec.json.decode(line, type=Header)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{side}, line 1: not the header of a recording ({error})") from error
    if (header.format, header.format_version) != (FORMAT, FORMAT_VERSION):
        raise DataError(
            f"{side}: format {header.format} {header.format_version} is not "
            f"{FORMAT} {FORMAT_VERSION}; record it again"
        )
    return header


def _decode(side: Path, kind: type[T]) -> Iterator[T]:
    """All lines after the header."""
    decoder = msgspec.json.Decoder(kind)
    with _open(side) as file:
        file.readline()
        for number, line in enumerate(file, start=2):
            try:
                yield decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise DataError(f"{side}, line {number}: {error}") from error


def _open(side: Path) -> BinaryIO:
    try:
        return side.open("rb")
    except OSError as error:
        raise DataError(f"{side}: cannot be read ({error.strerror})") from error
