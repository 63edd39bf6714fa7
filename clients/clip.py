"""What a player takes home: clips and single pictures, both marked as AI-generated."""

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import numpy as np
from numpy.typing import NDArray

from worldsim.clients.source import Facts
from worldsim.errors import WorldsimError
from worldsim.provenance import notice, video_tags, write_png
from worldsim.signing import Signer

# the sample rates that AAC knows, in Hz; a world's own is what fits the clock of its frames
AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)


class ClipWriter:
    """H.264 in mp4, at the world's own size and rate, with AAC if it has sound. Use it in a `with`:
    the end is written last, then it is signed.

    Raises WorldsimError if the file cannot be written or signed.
    """

    def __init__(self, path: Path, facts: Facts, signer: Signer | None = None) -> None:
        self.frames = 0
        self._path, self._facts, self._signer = path, facts, signer
        height, width = facts.frame_size
        try:
            self._file = path.open("wb")  # libav would say so only at the first frame
        except OSError as error:
            raise WorldsimError(f"{path}: cannot be written: {error.strerror}") from error
        self._container = av.open(self._file, "w", format="mp4")
        self._container.metadata.update(video_tags(notice(facts.name, facts.hash)))
        rate = Fraction(facts.fps).limit_denominator(1001)
        self._stream = self._container.add_stream("libx264", rate=rate)
        self._stream.width, self._stream.height = width + width % 2, height + height % 2
        self._stream.pix_fmt = "yuv420p"
        self._stream.options = {"crf": "18", "preset": "veryfast"}
        self._stream.codec_context.thread_count = 1
        self._sound: av.audio.stream.AudioStream | None = None
        self._samples = 0
        if facts.sample_rate is not None:
            self._rate = facts.sample_rate
            rate_aac = next((r for r in AAC_RATES if r >= self._rate), AAC_RATES[-1])
            self._sound = self._container.add_stream("aac", rate=rate_aac, layout="mono")
            self._resampler = av.AudioResampler(format="fltp", layout="mono", rate=rate_aac)

    def add(self, frame: NDArray[np.uint8], sound: NDArray[np.float32] | None = None) -> None:
        """Append one frame, uint8 (H, W, 3), and its sound, float32 (n,).

        An odd edge is doubled: the codec wants even sizes.
        """
        even = np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)), "edge")
        video = av.VideoFrame.from_ndarray(even, format="rgb24")
        self._container.mux(self._stream.encode(video))
        self.frames += 1
        if self._sound is not None and sound is not None:
            line = np.ascontiguousarray(sound, dtype=np.float32)[None]
            heard = av.AudioFrame.from_ndarray(line, format="fltp", layout="mono")
            heard.sample_rate = self._rate
            heard.pts, heard.time_base = self._samples, Fraction(1, self._rate)
            self._hear(heard)
            self._samples += len(sound)

    def _hear(self, heard: av.AudioFrame | None) -> None:
        assert self._sound is not None
        for part in self._resampler.resample(heard):
            self._container.mux(self._sound.encode(part))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._container.mux(self._stream.encode(None))
        if self._sound is not None:
            if self._samples:
                self._hear(None)  # what the resampler still holds
            self._container.mux(self._sound.encode(None))
        self._container.close()
        self._file.close()
        if self._signer is not None:
            name, of = self._facts.name, self._facts.hash
            self._signer.sign(self._path, "video/mp4", world=name, world_hash=of)


def save_picture(
    frame: NDArray[np.uint8], facts: Facts, folder: Path, signer: Signer | None = None
) -> Path:
    """Write a frame as PNG under a new name in `folder`; the path. WorldsimError if it cannot."""
    number = 1
    while (path := folder / f"worldsim-{facts.name}-{number:03d}.png").exists():
        number += 1
    try:
        write_png(frame, path, notice(facts.name, facts.hash))
    except OSError as error:
        raise WorldsimError(f"{path}: cannot be written: {error.strerror}") from error
    if signer is not None:
        signer.sign(path, "image/png", world=facts.name, world_hash=facts.hash)
    return path
