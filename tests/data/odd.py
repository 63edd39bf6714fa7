"""Videos that are odd, or broken, or not videos (F47)."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def write_odd(
    path: Path,
    *,
    codec: str = "libx264",
    size: tuple[int, int] = (24, 32),
    frames: int = 8,
    pixels: str = "yuv420p",
    rotation: int = 0,
    rate: float = 12,
    times: list[int] | None = None,
) -> None:
    """A clip whose left half is bright: `size` is (H, W), `times` are ms of each frame, `rotation`
    is what a phone writes beside the pictures, in degrees."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(rate).limit_denominator(1001))
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width, stream.pix_fmt = *size, pixels
        if rotation:
            stream.set_display_rotation(rotation)
        if times is not None:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        picture = np.zeros((*size, 3), dtype=np.uint8)
        picture[:, : size[1] // 2] = 200
        for i in range(frames):
            picture[-1] = 20 * (i % 10)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[i], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
