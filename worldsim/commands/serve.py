"""`worldsim serve`: offer a world to players over a websocket."""

import os
import secrets
import socket
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

import tyro

from worldsim.backends.names import Backend
from worldsim.commands.sign import SignFlag, signer_of

MAX_WORKERS = 64


@dataclass(frozen=True, kw_only=True)
class Serve:
    """Offer a world to players over a websocket (sub-protocol worldsim.v1).

    Ctrl-C ends it.
    """

    world: Annotated[str, tyro.conf.Positional] = "doom-hall"
    """Name of a world that ships with the package, or the folder of one."""
    host: str = "127.0.0.1"
    """Address to listen on. One that other machines can reach needs a token."""
    port: int = 8765
    """TCP port; 0 takes any free one."""
    rate: float | None = None
    """Ticks per second, Hz. Default: the rate of the video that the world was trained on."""
    token: str | None = None
    """Secret that clients must show. Default: the environment variable WORLDSIM_TOKEN; else none on
    loopback, and one that is made up and shown where other machines can reach the address."""
    insecure: bool = False
    """Let everybody in who can reach the address."""
    certfile: Path | None = None
    """PEM certificate chain: serve wss:// instead of ws://."""
    keyfile: Path | None = None
    """PEM key, if it is not in the certificate file."""
    workers: int = 1
    """Processes that share the port, with a world each."""
    sessions: int | None = None
    """Games at a time, 1..256; those beyond are asked to come back later. Default: as many as the
    machine keeps up with, measured at the start."""
    exact: bool = False
    """Always compute all --sessions, so that a replay does not depend on who else plays. Slower."""
    recordings: Path | None = None
    """Folder for what players record. Default: they cannot record."""
    saves: Path | None = None
    """Folder, shared with other servers of this world, where games are saved every 5 seconds: a
    player whose server is gone comes back to the last save. Default: games end with the server."""
    sign: SignFlag = None
    """Sign recordings (C2PA) with a certificate chain and its key, two PEM files."""
    log_json: bool = False
    """Log one JSON object per line."""
    k: Literal[1, 2, 4] = 2
    """Flow steps per frame: 1 is fast, 4 is good. Players may wish for another number."""
    device: str = "cpu"
    """Where the model runs: cpu or cuda."""
    backend: Backend = "auto"
    """What computes the ticks; auto: what `worldsim doctor --probe` found quickest here."""
    reanchor: bool = False
    """Go on from a frame of the footage when the picture has fallen apart."""

    def __post_init__(self) -> None:
        if not 1 <= self.workers <= MAX_WORKERS:
            raise ValueError(f"workers must be 1..{MAX_WORKERS}, got {self.workers}")
        if self.sign is not None and self.recordings is None:
            raise ValueError("--sign is for recordings: give --recordings FOLDER as well")
        for name in ("recordings", "saves"):
            folder: Path | None = getattr(self, name)
            if folder is not None and folder.exists() and not folder.is_dir():
                raise ValueError(f"{name} is a folder, and {folder} is a file")

    def run(self) -> int:
        """Serve until Ctrl-C (130) or SIGTERM (0)."""
        from worldsim.cli import say
        from worldsim.runtime import prepare
        from worldsim.server.app import ServeConfig, listen, run
        from worldsim.server.handshake import is_loopback
        from worldsim.server.logs import set_up
        from worldsim.server.workers import WORKER, run_workers

        set_up(as_json=self.log_json)
        token = os.environ.get("WORLDSIM_TOKEN") if self.token is None else self.token
        if token is None and not is_loopback(self.host) and not self.insecure:
            token = secrets.token_urlsafe(32)
            say(f"the token of this server is {token}; for a browser, {self._link(token)}")
        config = ServeConfig(
            host=self.host,
            port=self.port,
            rate=self.rate,
            token=token or None,
            insecure=self.insecure,
            certfile=self.certfile,
            keyfile=self.keyfile,
            max_sessions=self.sessions,
            exact=self.exact,
            recordings=self.recordings,
            signer=signer_of(self.sign),
            saves=self.saves,
            worker=int(os.environ.get(WORKER, "0")),
        )
        if self.workers > 1:
            return run_workers(self._arguments(), self.workers, config)
        listen(config).close()  # a wrong address shows before the seconds that loading takes
        prepare(threads=1)
        from worldsim.world import World

        world = World.load(
            self.world,
            device=self.device,
            flow_steps=self.k,
            backend=self.backend,
            reanchor=self.reanchor,
        )
        say(f"{world.backend} computes the ticks")
        return run(world, config)

    def _link(self, token: str) -> str:
        """The web client with the token behind #, which a browser sends to nobody."""
        scheme = "http" if self.certfile is None else "https"
        host = socket.gethostname() if self.host in ("0.0.0.0", "::") else self.host
        name = f"[{host}]" if ":" in host else host
        return f"{scheme}://{name}:{self.port}/#token={token}"

    def _arguments(self) -> list[str]:
        """The command line of one worker, without port and token."""
        arguments = [self.world]
        for field in fields(self):
            value = getattr(self, field.name)
            flag = "--" + field.name.replace("_", "-")
            if field.name in ("world", "port", "token", "workers") or value in (None, False):
                continue
            values = value if isinstance(value, tuple) else () if value is True else (value,)
            arguments += [flag, *map(str, values)]
        return arguments
