"""Sound out of a pygame window: a short queue of samples between the game and the sound device.

The device asks for samples from a thread of its own; the queue gives it what there is, and silence
where there is nothing. It never grows long: what is heard late is worse than what is not heard.
"""

import sys
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAD = 0.045  # seconds that wait before the first one is played: more than frames jitter
LONGEST = 0.12  # seconds that may wait; older ones are dropped
BLOCK = 256  # samples that the device asks for at once
FADE = 64  # samples over which sound ends where nothing follows, and begins after a gap


class SampleQueue:
    """Samples in order, from one thread to another."""

    def __init__(self, rate: int) -> None:
        """`rate` is in Hz."""
        self.dropped = 0  # samples that came too early to be played in time
        self.gaps = 0  # times that there was nothing to play
        self._lead, self._longest = round(LEAD * rate), round(LONGEST * rate)
        self._waiting = np.zeros(0, dtype=np.float32)
        self._is_playing = False
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, sound: NDArray[np.float32]) -> None:
        """Append samples, -1..1; the oldest go if too many wait."""
        with self._lock:
            line = np.concatenate([self._waiting, sound])
            late = len(line) - self._longest
            if late > 0:
                self.dropped += late
                line = line[late:]
            self._waiting = line

    def take(self, count: int) -> NDArray[np.float32]:
        """The next `count` samples; silence until LEAD of them wait, and where there are none."""
        with self._lock:
            out = np.zeros(count, dtype=np.float32)
            if not self._is_playing and len(self._waiting) < max(self._lead, count):
                return out
            begins = not self._is_playing
            part, self._waiting = self._waiting[:count], self._waiting[count:]
            out[: len(part)] = part
            if begins:
                out[:FADE] *= np.linspace(0, 1, FADE, dtype=np.float32)
            self._is_playing = len(part) == count
            if not self._is_playing:
                self.gaps += 1
                end = out[max(0, len(part) - FADE) : len(part)]
                end *= np.linspace(1, 0, len(end), dtype=np.float32)
            return out

    def clear(self) -> None:
        """Forget what waits."""
        with self._lock:
            self._waiting = self._waiting[:0]
            self._is_playing = False


class Speaker:
    """The machine's sound device, if it has one; without, nothing is heard and nothing fails."""

    def __init__(self, rate: int | None) -> None:
        """`rate`: of the world's sound in Hz, None for a silent world. SDL converts it to the
        device's own."""
        self.is_muted = False
        self._queue = SampleQueue(rate or 1)
        self._device: Any = None
        if rate is None:
            return
        try:
            from pygame._sdl2 import audio, sdl2

            sdl2.init_subsystem(sdl2.INIT_AUDIO)
            self._device = audio.AudioDevice(
                None, False, rate, audio.AUDIO_S16, 1, BLOCK, 0, self._fill
            )
            self._device.pause(0)
        except (ImportError, RuntimeError) as error:
            print(f"worldsim: no sound device ({error}); the game is silent", file=sys.stderr)

    def play(self, sound: NDArray[np.float32] | None) -> None:
        """Queue the sound of a tick, float32 (n,), -1..1."""
        if self._device is not None and not self.is_muted and sound is not None:
            self._queue.put(sound)

    def toggle(self) -> bool:
        """Mute, or play again; whether it is muted now."""
        self.is_muted = not self.is_muted
        self._queue.clear()
        return self.is_muted

    def close(self) -> None:
        """Give the device back."""
        if self._device is not None:
            self._device.close()
            self._device = None

    def _fill(self, _device: Any, block: Any) -> None:
        """Called on the device's thread; `block` is its memory."""
        samples = np.frombuffer(block, dtype=np.int16)
        part = self._queue.take(len(samples))
        np.copyto(samples, np.rint(np.clip(part, -1, 1) * 32767).astype(np.int16))
