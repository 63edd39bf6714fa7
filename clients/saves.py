"""Saved games: files NAME-001.wsave, NAME-002.wsave, ..., each a snapshot of a world."""

import os
from pathlib import Path

from worldsim.clients.source import Facts
from worldsim.errors import DataError, WorldsimError

SUFFIX = ".wsave"


def write_save(snapshot: bytes, facts: Facts, folder: Path) -> Path:
    """A new file in `folder`, whole or not at all; its path. WorldsimError if it cannot be."""
    number = 1
    while (path := folder / f"worldsim-{facts.name}-{number:03d}{SUFFIX}").exists():
        number += 1
    draft = path.with_name(f".{path.name}.part")
    try:
        draft.write_bytes(snapshot)
        os.replace(draft, path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise WorldsimError(f"{path}: cannot be written: {error.strerror}") from error
    return path


def newest_save(facts: Facts, folder: Path) -> Path:
    """The file of this world that was saved last; DataError if there is none."""
    found = list(folder.glob(f"worldsim-{facts.name}-*{SUFFIX}"))
    if not found:
        raise DataError(f"{folder}: no saved game of {facts.name} here; F5 saves one")
    return max(found, key=lambda path: (path.stat().st_mtime_ns, path.name))


def read_save(path: Path) -> bytes:
    """The bytes of a saved game; DataError if they cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
