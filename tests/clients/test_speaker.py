"""Sound out of a window: in order, never late, and never a reason to stop."""

import numpy as np
import pytest

from worldsim.clients import speaker
from worldsim.clients.speaker import SampleQueue, Speaker

RATE = 22050
TICK = RATE // 35


def tick(number: int) -> np.ndarray:
    return (np.arange(TICK) + number * TICK).astype(np.float32)


def test_samples_come_out_in_order_once_enough_wait() -> None:
    queue = SampleQueue(RATE)
    queue.put(tick(0))
    assert not queue.take(256).any(), "too few wait"
    queue.put(tick(1))

    heard = np.concatenate([queue.take(200) for _ in range(6)])
    assert np.array_equal(heard[speaker.FADE :], np.arange(speaker.FADE, 1200))
    assert queue.gaps == queue.dropped == 0


def test_a_gap_is_silence_that_fades_in_and_out() -> None:
    queue = SampleQueue(RATE)
    queue.put(np.ones(2 * TICK, dtype=np.float32))

    heard = np.concatenate([queue.take(256) for _ in range(8)])
    queue.put(np.ones(2 * TICK, dtype=np.float32))
    heard = np.concatenate([heard, queue.take(256)])

    assert queue.gaps == 1
    assert np.abs(np.diff(heard, prepend=0)).max() < 2 / speaker.FADE
    assert heard[256:1024].all() and not heard[1300:2048].any()


def test_what_is_late_is_dropped() -> None:
    queue = SampleQueue(RATE)
    for number in range(20):
        queue.put(tick(number))

    assert len(queue) == round(speaker.LONGEST * RATE)
    assert queue.dropped == 20 * TICK - len(queue)


def test_muted_it_takes_nothing() -> None:
    loud = Speaker(RATE)
    try:
        assert loud.toggle() is True
        loud.play(tick(0))
        assert len(loud._queue) == 0
        assert loud.toggle() is False
    finally:
        loud.close()


def test_no_sound_device_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pygame._sdl2 import audio

    def refuse(*_: object) -> None:
        raise RuntimeError("No such device.")

    monkeypatch.setattr(audio, "AudioDevice", refuse)
    silent = Speaker(RATE)
    silent.play(tick(0))
    silent.close()

    assert capsys.readouterr().err.count("\n") == 1


def test_a_silent_world_opens_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    silent = Speaker(None)
    silent.play(None)
    silent.close()
    assert capsys.readouterr().err == ""
