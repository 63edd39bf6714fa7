"""Writes recordings: NAME.mkv (H.264 and FLAC) and NAME.jsonl, a line per frame.

Sound is placed by counting samples, so sample `n * samples_per_frame` belongs to frame n exactly.
"""

import json
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

import av
import numpy as np
from numpy.typing import NDArray

# mbtree: its vectorized arithmetic makes x264's output differ from run to run.
X264 = {
    "crf": "18",
    "preset": "veryfast",
    "g": "70",
    "threads": "1",
    "x264-params": "mbtree=0:cpu-independent=1",
}
# Every frame leaves the encoder at once and goes to the disk at once: a file that is never closed
# can be played up to its last moments.
LIVE_X264 = {**X264, "tune": "zerolatency"}
LIVE_MATROSKA = {"cluster_time_limit": "0", "flush_packets": "1"}


class VideoWriter:
    """An mkv with one H.264 stream and, if there is a sample rate, one mono FLAC stream."""

    def __init__(
        self,
        path: Path,
        *,
        size: tuple[int, int],
        fps: float,
        sample_rate: int | None = None,
        is_live: bool = False,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """`size` is (H, W), both even (H.264 stores colour at half the size). `is_live`: larger,
        but playable at any moment."""
        if size[0] % 2 or size[1] % 2:
            raise ValueError(f"size must be even, got {size}")
        options = LIVE_MATROSKA if is_live else {}
        self._container = av.open(str(path), "w", format="matroska", options=options)
        self._container.metadata.update(metadata or {})
        rate = Fraction(fps).limit_denominator(1001)
        self._period = 1 / rate
        x264 = dict(LIVE_X264 if is_live else X264)
        self._video = self._container.add_stream("libx264", rate=rate, options=x264)
        self._video.height, self._video.width = size
        self._video.pix_fmt = "yuv420p"
        self._audio = None
        if sample_rate is not None:
            self._audio = self._container.add_stream("flac", rate=sample_rate, layout="mono")
            self._sample_rate = sample_rate
        self._frames = 0
        self._samples = 0

    def write(self, frame: NDArray[np.uint8], sound: NDArray[np.int16] | None = None) -> None:
        """Appends one frame uint8 (H, W, 3) and its sound, int16 (n,)."""
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        picture.pts = self._frames
        picture.time_base = self._period
        self._container.mux(self._video.encode(picture))
        self._frames += 1
        if self._audio is not None and sound is not None:
            chunk = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(sound)[None], format="s16", layout="mono"
            )
            chunk.sample_rate = self._sample_rate
            chunk.pts = self._samples
            chunk.time_base = Fraction(1, self._sample_rate)
            self._container.mux(self._audio.encode(chunk))
            self._samples += len(sound)

    def abandon(self) -> None:
        """Closes the file without finishing it."""
        self._container.close()

    def close(self) -> None:
        """Flushes both encoders and finishes the file."""
        self._container.mux(self._video.encode(None))
        if self._audio is not None:
            self._container.mux(self._audio.encode(None))
        self._container.close()


class RecordingWriter:
    """A video and its side file; a context manager that leaves nothing behind after an error."""

    def __init__(self, path: Path, header: Mapping[str, Any], *, size: tuple[int, int]) -> None:
        """`path` ends in .mkv; `header` holds at least fps and sample_rate."""
        self._paths = (path, path.with_suffix(".jsonl"))
        self._video = VideoWriter(
            path, size=size, fps=header["fps"], sample_rate=header["sample_rate"]
        )
        self._side: TextIO = path.with_suffix(".jsonl").open("w", encoding="ascii")
        self._line(header)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._side.close()
        if kind is None:
            self._video.close()
            return
        # Half an episode under the name of a whole one would not be what its seed says.
        self._video.abandon()
        for path in self._paths:
            path.unlink(missing_ok=True)

    def write(
        self, frame: NDArray[np.uint8], sound: NDArray[np.int16] | None, line: Mapping[str, Any]
    ) -> None:
        """Appends one frame, its sound, and its line of the side file."""
        self._video.write(frame, sound)
        self._line(line)

    def _line(self, values: Mapping[str, Any]) -> None:
        self._side.write(json.dumps(values, separators=(",", ":")) + "\n")
