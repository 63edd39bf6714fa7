"""`worldsim serve`: offer a world to players over a websocket."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True, kw_only=True)
class Serve:
    """Offer a world to players over a websocket (sub-protocol worldsim.v1).

    Ctrl-C ends it.
    """

    world: Annotated[str, tyro.conf.Positional] = "doom-hall"
    """Name of a world that ships with the package, or the folder of one."""
    host: str = "127.0.0.1"
    """Address to listen on. One that other machines can reach needs --token."""
    port: int = 8765
    """TCP port; 0 takes any free one."""
    rate: float | None = None
    """Ticks per second, Hz. Default: the rate of the video that the world was trained on."""
    token: str | None = None
    """Secret that clients must show. Default: the environment variable WORLDSIM_TOKEN, or none."""
    certfile: Path | None = None
    """PEM certificate chain: serve wss:// instead of ws://."""
    keyfile: Path | None = None
    """PEM key, if it is not in the certificate file."""
    workers: int = 1
    """Processes that share the port. Only 1 so far."""
    sessions: int = 4
    """Players at a time; those beyond are asked to come back later."""
    k: Literal[1, 2, 4] = 2
    """Flow steps per frame: 1 is fast, 4 is good."""
    device: str = "cpu"
    """Where the model runs: cpu or cuda."""

    def __post_init__(self) -> None:
        if self.workers != 1:
            raise ValueError(f"workers must be 1 so far, got {self.workers}")

    def run(self) -> int:
        """Serve until Ctrl-C (130) or SIGTERM (0)."""
        import logging

        from worldsim.runtime import prepare
        from worldsim.server.app import ServeConfig, listen, run

        logging.basicConfig(format="worldsim: %(message)s", level=logging.INFO)
        logging.getLogger("websockets").setLevel(logging.ERROR)  # every refused handshake is ours
        config = ServeConfig(
            host=self.host,
            port=self.port,
            rate=self.rate,
            token=self.token or os.environ.get("WORLDSIM_TOKEN") or None,
            certfile=self.certfile,
            keyfile=self.keyfile,
            max_sessions=self.sessions,
        )
        listen(config).close()  # a wrong address shows before the seconds that loading takes
        prepare(threads=1)
        from worldsim.world import World

        return run(World.load(self.world, device=self.device, flow_steps=self.k), config)
