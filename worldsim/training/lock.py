"""One trainer per run folder, and one sentence if the folder's disk fails."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from worldsim.errors import MachineError, WorldsimError

LOCK, HOLDER = ".lock", ".holder.json"


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Make `run` and own it while the block lasts; WorldsimError names who owns it already.

    The system lets go of the lock when its process ends, however that comes about, so a lock file
    that a killed run left behind hinders nobody.
    """
    run.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise WorldsimError(
            f"{run}: another trainer is at work here ({_holder(run)}); wait for it or stop it, "
            "or give another folder"
        ) from error
    try:
        holder = {"pid": os.getpid(), "host": socket.gethostname()}
        (run / HOLDER).write_text(json.dumps(holder) + "\n")
        yield
    finally:
        (run / HOLDER).unlink(missing_ok=True)
        lock.release()


@contextmanager
def disk_errors(run: Path) -> Iterator[None]:
    """Whatever a full, failing or read-only disk raises comes out as MachineError."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        where = getattr(error, "filename", None) or run
        what = getattr(error, "strerror", None) or error
        raise MachineError(
            f"{where}: {what}; checkpoints that were saved are kept, --resume goes on from there"
        ) from error


def _holder(run: Path) -> str:
    try:
        holder = json.loads((run / HOLDER).read_text())
        return f"process {holder['pid']} on {holder['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "it has not said which"
