"""What the server counts about itself, in the text format of Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.002, 0.005, 0.010, 0.015, 0.020, 0.0286, 0.035, 0.0417, 0.05, 0.0625, 0.1, 0.25, 1.0)
LAGS = (0, 1, 2, 3, 5, 10, 25, 50, 100)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """One set per server, in a registry of its own: two servers of one process do not mix."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        self.frame_seconds = Histogram(
            "worldsim_frame_seconds",
            "Time of one frame in each stage.",
            ["stage"],  # model, encode, queue, send
            buckets=SECONDS,
            registry=registry,
        )
        self.frames = Counter(
            "worldsim_frames",
            "Frames: sent, dropped because the client was behind, late (the tick was missed).",
            ["result"],
            registry=registry,
        )
        self.action_to_frame = Histogram(
            "worldsim_action_to_frame_seconds",
            "From the arrival of an action to the first frame that reflects it, encoded.",
            buckets=SECONDS,
            registry=registry,
        )
        self.client_lag = Histogram(
            "worldsim_client_lag_frames",
            "Frames made since the one that a client has just acknowledged.",
            buckets=LAGS,
            registry=registry,
        )
        self.rejects = Counter(
            "worldsim_ws_rejects", "Handshakes refused.", ["reason"], registry=registry
        )
        self.sessions = Gauge("worldsim_sessions", "Open connections.", registry=registry)
        self.games = Gauge("worldsim_games", "Worlds that somebody plays.", registry=registry)
        self.capacity = Gauge("worldsim_capacity", "Worlds that may be played.", registry=registry)
        self.degraded = Counter(
            "worldsim_degraded_frames", "Frames with fewer flow steps.", registry=registry
        )
        self.failures = Counter(
            "worldsim_model_failures", "Ticks that failed, per player.", registry=registry
        )
        for result in ("sent", "dropped", "late"):
            self.frames.labels(result)  # there from the first scrape, at zero
        for stage in ("model", "encode", "queue", "send"):
            self.frame_seconds.labels(stage)

    def text(self) -> bytes:
        """The answer to a scrape."""
        return generate_latest(self._registry)
