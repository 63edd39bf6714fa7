"""A world on many machines: replicas of a Ray Serve deployment, each with a model of its own.

    serve run worldsim.server.ray_app:build world=doom-hall replicas=2 saves=/shared/saves

A connection stays on its replica. The replicas know of each other only through the folder of saves
(`vault.py`), which all of them have to see. When one is killed its players lose the connection;
they come back with their token, wherever they land, and go on from the last save. Needs the extra
`ray`.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worldsim.errors import MachineError, WorldsimError
from worldsim.server.app import ServeConfig, guard
from worldsim.server.asgi import App

if TYPE_CHECKING:
    from worldsim.world import World

CONNECTIONS = 512  # of one replica; places and seats are limited by its door long before
LEAVE = 5.0  # seconds that connections have to end when a replica is stopped
HEALTH = 2.0  # seconds between two looks at whether a replica lives


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """What `build` takes, as KEY=VALUE on the command line of `serve run`."""

    world: str = "doom-hall"
    replicas: int = 2
    saves: str = ""  # folder that all replicas see; must be given
    save_every: float = 5.0  # seconds
    host: str = "127.0.0.1"  # what Serve's proxies listen on (--http-host of `serve start`)
    token: str = ""  # better: WORLDSIM_TOKEN in the environment of the replicas
    rate: float = 0.0  # Hz; 0: the world's own
    sessions: int = 0  # games per replica; 0: as many as are measured
    cpus: float = 1.0  # of a replica
    gpus: float = 0.0
    device: str = "cpu"
    backend: str = "auto"

    @classmethod
    def parse(cls, arguments: Mapping[str, str]) -> "Deployment":
        """Raises WorldsimError for a key that is none, or a value that is no number."""
        kinds: dict[str, Any] = {field.name: field.type for field in fields(cls)}
        values = {}
        for key, text in arguments.items():
            if key not in kinds:
                raise WorldsimError(f"there is no {key!r} to set; there are {', '.join(kinds)}")
            try:
                values[key] = kinds[key](text)
            except ValueError as error:
                raise WorldsimError(f"{key} must be a number, got {text!r}") from error
        if not values.get("saves"):
            raise WorldsimError("saves must name a folder that all replicas see")
        return cls(**values)

    def config(self) -> ServeConfig:
        """Asked for where a replica runs: each makes up a name of its own."""
        return ServeConfig(
            host=self.host,
            token=self.token or os.environ.get("WORLDSIM_TOKEN") or None,
            rate=self.rate or None,
            max_sessions=self.sessions or None,
            saves=Path(self.saves),
            save_every=self.save_every,
        )

    def load_world(self) -> "World":
        """The model of this replica, and nobody else's."""
        from worldsim.runtime import prepare

        prepare(threads=1)
        from worldsim.world import World

        return World.load(self.world, device=self.device, backend=self.backend)


def build(arguments: Mapping[str, str]) -> Any:
    """The application for `serve run` or `ray.serve.run`; the arguments are those of Deployment.

    Raises WorldsimError for wrong ones, MachineError without ray, or for an address that other
    machines can reach without a token.
    """
    return application(Deployment.parse(arguments))


def application(wanted: Deployment) -> Any:
    """The application that runs so many replicas; see `build`."""
    try:
        from ray import serve
    except ImportError as error:
        raise MachineError(
            "a deployment on Ray Serve needs the extra ray: pip install 'worldsim-engine[ray]'"
        ) from error
    guard(wanted.config())

    class World:
        """Serve wants a class; the application inside of it does the work."""

    inside: Any = serve.ingress(App(wanted.load_world, wanted.config))(World)
    deployed: Any = serve.deployment(
        inside,
        name=wanted.world.rpartition("/")[2],
        num_replicas=wanted.replicas,
        max_ongoing_requests=CONNECTIONS,
        ray_actor_options={"num_cpus": wanted.cpus, "num_gpus": wanted.gpus},
        graceful_shutdown_timeout_s=LEAVE,
        health_check_period_s=HEALTH,
    )
    return deployed.bind()
