"""`worldsim serve --workers N`: N processes with a world each, on one port.

The kernel gives each new connection to one of them. They share nothing: a game lives where it was
opened, so its token and its id say which worker that is, and a client that lands elsewhere is told
to connect again.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType

from worldsim.server.app import INTERRUPTED, ServeConfig, listen

WORKER = "WORLDSIM_WORKER"  # the number of this worker, 1..N; unset in a server of one process
PATIENCE = 10.0  # seconds that the workers have to stop


def run_workers(arguments: Sequence[str], count: int, config: ServeConfig) -> int:
    """Run `worldsim serve ARGUMENTS` in `count` processes until a signal; the exit code.

    A worker that ends by itself ends them all: nobody should find a server with a part missing.
    """
    with _reserved(config) as port:
        command = [sys.executable, "-m", "worldsim.cli", "serve", *arguments, "--port", str(port)]
        environment = {**os.environ, **({"WORLDSIM_TOKEN": config.token} if config.token else {})}
        workers = [
            subprocess.Popen(command, env={**environment, WORKER: str(number)})
            for number in range(1, count + 1)
        ]
        asked: list[int] = []

        def stop(number: int, _: FrameType | None) -> None:
            asked.append(number)

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            while not asked and all(worker.poll() is None for worker in workers):
                time.sleep(0.1)
        finally:
            codes = _stop(workers)
            for number, handler in before.items():
                signal.signal(number, handler)
    if asked:
        return INTERRUPTED if asked[0] == signal.SIGINT else 0
    return next((code for code in codes if code > 0), 1)


@contextmanager
def _reserved(config: ServeConfig) -> Iterator[int]:
    """The port, held by a socket that accepts nothing, so that nobody takes it meanwhile."""
    with listen(replace(config, worker=1)) as listener:
        address, family = listener.getsockname(), listener.family
    with socket.socket(family, socket.SOCK_STREAM) as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(address)
        yield int(address[1])


def _stop(workers: Sequence["subprocess.Popen[bytes]"]) -> list[int]:
    for worker in workers:
        if worker.poll() is None:
            worker.terminate()
    deadline = time.monotonic() + PATIENCE
    codes = []
    for worker in workers:
        try:
            codes.append(worker.wait(max(0.0, deadline - time.monotonic())))
        except subprocess.TimeoutExpired:
            worker.kill()
            codes.append(worker.wait())
    return codes
