"""The payload of a frame: arrays <-> the bytes that stand behind its header. No I/O."""

import io

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from worldsim.errors import ProtocolError
from worldsim.server.frames import Frame

QUALITY = 90  # of a JPEG, unless the client wishes another
SMALL = 256 * 256  # pixels; below it, halved colour would smear what is a single pixel wide
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "WEBP")  # pictures from outside; the rest is not tried
MAX_PIXELS = 4096 * 4096  # of a picture from outside; a small file can unpack to gigabytes


def encode_picture(frame: NDArray[np.uint8], quality: int = QUALITY) -> bytes:
    """uint8 (H, W, 3) -> JPEG bytes; `quality` 1..100."""
    sampling = "444" if frame.shape[0] * frame.shape[1] <= SMALL else "420"
    pixels = np.ascontiguousarray(frame)
    return bytes(simplejpeg.encode_jpeg(pixels, quality=quality, colorsubsampling=sampling))


def decode_picture(frame: Frame) -> NDArray[np.uint8]:
    """The picture of a frame, uint8 (height, width, 3); ProtocolError if it is not what it says."""
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(frame.picture)
        if (height, width) != (frame.height, frame.width):
            raise ProtocolError(f"picture is {width}x{height}, not {frame.width}x{frame.height}")
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(frame.picture)
    except ValueError as error:
        raise ProtocolError(f"frame {frame.number} has a broken picture: {error}") from error
    return pixels


def encode_sound(chunk: NDArray[np.float32]) -> bytes:
    """float32 (n,), -1..1 -> PCM int16."""
    return (np.clip(chunk, -1.0, 1.0) * 32767.0).round().astype("<i2").tobytes()


def decode_sound(frame: Frame) -> NDArray[np.float32]:
    """The sound of a frame, float32 (n,), -1..1."""
    return np.frombuffer(frame.sound, "<i2").astype(np.float32) / np.float32(32767.0)


def decode_objects(frame: Frame) -> NDArray[np.float32]:
    """The object slots of a frame, float32 (K, D)."""
    return np.frombuffer(frame.objects, "<f4").reshape(frame.num_slots, frame.slot_size)


def fit_picture(data: bytes, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Any picture file -> uint8 (H, W, 3) of `size` (H, W); ValueError if unreadable or enormous.

    It is scaled to fit, with black bars where the proportions differ.
    """
    from PIL import Image, ImageOps

    height, width = size
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width}x{image.height} pixels are too many for a picture")
            upright = ImageOps.exif_transpose(image).convert("RGB")
            return np.array(ImageOps.pad(upright, (width, height)), np.uint8)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"not a readable picture: {error}") from error
