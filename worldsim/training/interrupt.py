"""Signals to a run: Ctrl-C and SIGTERM are met between two updates, the second of them at once;
SIGUSR1, with which batch systems announce that they will take the machine, asks for a checkpoint.
"""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SAVE = getattr(signal, "SIGUSR1", None)  # Windows has none


class Interrupt:
    """While it is open, `asked` says whether somebody wants the run to stop, `wants_save` whether
    to save and go on."""

    def __init__(self) -> None:
        self.asked = self.wants_save = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # only it may set handlers
            self._before = {s: signal.signal(s, self._ask) for s in SIGNALS}
            if SAVE is not None:
                self._before[SAVE] = signal.signal(SAVE, self._ask_to_save)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def _ask_to_save(self, number: int, frame: FrameType | None) -> None:
        self.wants_save = True
