"""What keeps a session from ever building a backlog: a mailbox, a window, a pace. No I/O.

Kernel buffers swallow seconds of video before a send blocks, so a slow reader cannot be seen from
the socket; only the client's own acks tell how far behind it is.
"""

from collections import deque

from worldsim.axes import Action

MAX_ADDRESSES = 4096  # whose attempts are counted


class Mailbox:
    """One slot for the newest action; an older one is worthless, so there is nothing to queue."""

    def __init__(self, action: Action) -> None:
        """Holds `action` as number 0 until the player does something."""
        self._newest = (0, action, 0.0)  # one tuple: the model's thread reads while the loop writes

    @property
    def seq(self) -> int:
        """Number of the newest action."""
        return self._newest[0]

    def read(self) -> tuple[int, Action, float]:
        """(seq, action, when it came) of the newest action; it stays, a key is held until it is
        released."""
        return self._newest

    def put(self, seq: int, action: Action, now: float = 0.0) -> bool:
        """Take the action unless it is older than the one held; whether it was taken."""
        if seq <= self.seq:
            return False
        self._newest = (seq, action, now)
        return True


class Window:
    """The frames on the way to a client: sent, and not yet acknowledged."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._sent: deque[tuple[int, float]] = deque()  # (frame number, when it was sent)

    def is_full(self) -> bool:
        """Whether the next frame has to wait."""
        return len(self._sent) >= self._size

    def send(self, number: int, now: float) -> None:
        """Frame `number` leaves at `now` (seconds)."""
        assert not self.is_full()
        self._sent.append((number, now))

    def ack(self, number: int) -> bool:
        """Frames up to `number` have arrived; False if nothing was waiting for that."""
        if not self._sent or number < self._sent[0][0] or number > self._sent[-1][0]:
            return False
        while self._sent and self._sent[0][0] <= number:
            self._sent.popleft()
        return True

    def age(self, now: float) -> float:
        """Seconds that the oldest frame on the way has been waiting for its ack; 0 for none."""
        return now - self._sent[0][1] if self._sent else 0.0


class Pace:
    """Counts events in fixed spans of time and says when there were too many."""

    def __init__(self, limit: int, span: float) -> None:
        """More than `limit` events within `span` seconds are too many."""
        self._limit, self._span = limit, span
        self._count = 0
        self._until = float("-inf")

    def excess(self, now: float) -> float:
        """Count one event at `now`; seconds until it would have been in time, 0 if it is."""
        if now >= self._until:
            self._count, self._until = 0, now + self._span
        self._count += 1
        return self._until - now if self._count > self._limit else 0.0


class Taps:
    """How often each address may knock: `rate` per second, `burst` at once."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate, self._burst = rate, burst
        self._taps: dict[str, tuple[float, float]] = {}  # address -> what is left, and when

    def allows(self, address: str, now: float) -> bool:
        """Count one attempt of `address` at `now` (seconds); False if it is one too many."""
        left, then = self._taps.pop(address, (float(self._burst), now))
        left = min(float(self._burst), left + (now - then) * self._rate)
        self._taps[address] = (left - 1 if left >= 1 else left, now)
        if len(self._taps) > MAX_ADDRESSES:
            del self._taps[next(iter(self._taps))]  # it has been quiet for the longest time
        return left >= 1
