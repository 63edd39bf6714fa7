"""Folders that are either whole or not there: how a checkpoint reaches the disk.

    PARENT/.tmp-STEP-PID/  -- every file fsynced, then manifest.json with sizes and sha256 --
    PARENT/step-00001234/  <- rename, then fsync of PARENT: this is the commit

The newest one is computed, by checking manifests from the last step down, and never pointed at: a
pointer could be newer than what it points to. Nothing here reads or writes pickle.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from worldsim.errors import CheckpointError
from worldsim.training.say import say

KEEP = 3  # newest folders of a parent
MILESTONES = 5000  # steps, of which the last folder is kept too: to see later what went wrong when
PREFIX, DRAFT = "step-", ".tmp-"
MOST_BYTES = 15_000_000  # of a file of tensors: what carries files away may refuse large ones
MANIFEST = "manifest.json"
MEGABYTE = 1e6


@dataclass(frozen=True)
class Parts:
    """What a folder holds, by file name without suffix."""

    tensors: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)  # .safetensors
    notes: Mapping[str, Any] = field(default_factory=dict)  # .json

    @property
    def size(self) -> int:
        """Bytes of all tensors."""
        return sum(t.nbytes for part in self.tensors.values() for t in part.values())


def commit(parent: Path, step: int, parts: Parts) -> Path:
    """Write `parts` as the folder of `step`, then drop all but the KEEP newest and the
    milestones.

    Raises CheckpointError if the disk does not take it; what was committed before is untouched.
    """
    final = parent / f"{PREFIX}{step:08d}"
    draft = parent / f"{DRAFT}{step}-{os.getpid()}"
    try:
        _clear(draft)
        draft.mkdir(parents=True)
        _refuse_full_disk(parent, parts.size)
        _write(draft, parts)
        if final.exists():  # damaged, or its step is being made again
            _clear(final)
        os.rename(draft, final)
        _sync_folder(parent)
    except (OSError, SafetensorError) as error:
        with contextlib.suppress(OSError):
            _clear(draft)
        raise CheckpointError(
            f"{final}: could not be saved, {parts.size / MEGABYTE:.1f} MB: {error}"
        ) from error
    for folder in _superseded(_committed(parent)):
        with contextlib.suppress(OSError):  # the next commit tries again
            _clear(folder)
    return final


def newest(parent: Path, *, strict: bool = False) -> Path | None:
    """The folder of the last step whose manifest holds, None if nothing was ever committed.

    Says what it passes over. Raises CheckpointError if nothing holds, or, with `strict`, if the
    last one does not.
    """
    folders = _committed(parent)
    for folder in reversed(folders):
        fault = _fault(folder)
        if fault is None:
            return folder
        if strict:
            raise CheckpointError(f"{folder}: damaged: {fault}")
        say(f"{folder}: damaged ({fault}); going back to the checkpoint before it")
    if folders:
        raise CheckpointError(f"{parent}: every checkpoint is damaged; delete them to start anew")
    return None


def read(folder: Path) -> Parts:
    """The content of a committed folder; CheckpointError names the file that cannot be read."""
    tensors: dict[str, dict[str, Tensor]] = {}
    notes: dict[str, Any] = {}
    for path in sorted(folder.iterdir()):
        try:
            if path.suffix == ".safetensors":
                name, _, _ = path.stem.partition(".")
                tensors.setdefault(name, {}).update(load_file(path))
            elif path.suffix == ".json":
                notes[path.stem] = json.loads(path.read_bytes())
        except (OSError, SafetensorError, ValueError) as error:
            raise CheckpointError(f"{path}: cannot be read: {error}") from error
    return Parts(tensors, notes)


def clean(parent: Path) -> None:
    """Remove what interrupted commits left; only while no other trainer writes here."""
    for draft in parent.glob(f"{DRAFT}*"):
        _clear(draft)


def _shards(tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """In files of at most MOST_BYTES, unless a single tensor is larger."""
    shards: list[dict[str, Tensor]] = [{}]
    for key, value in tensors.items():
        if shards[-1] and sum(x.nbytes for x in shards[-1].values()) + value.nbytes > MOST_BYTES:
            shards.append({})
        shards[-1][key] = value
    return shards


def _write(draft: Path, parts: Parts) -> None:
    for name, tensors in parts.tensors.items():
        for number, shard in enumerate(_shards(tensors)):
            file_name = f"{name}.{number}.safetensors" if number else f"{name}.safetensors"
            save_file({k: v.contiguous() for k, v in shard.items()}, draft / file_name)
    for name, note in parts.notes.items():
        (draft / f"{name}.json").write_text(json.dumps(note, indent=1) + "\n")
    files = {p.name: {"size": p.stat().st_size, "sha256": _hash(p)} for p in draft.iterdir()}
    (draft / MANIFEST).write_text(json.dumps({"files": files}, indent=1) + "\n")
    for path in draft.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    _sync_folder(draft)


def _fault(folder: Path) -> str | None:
    """What is wrong with a committed folder; None if every file is as its manifest says."""
    try:
        files = json.loads((folder / MANIFEST).read_bytes())["files"]
        listed = {str(name): (int(v["size"]), str(v["sha256"])) for name, v in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{MANIFEST}: {error!r}"
    found = {path.name for path in folder.iterdir()} - {MANIFEST}
    if found != set(listed):  # also what a name like ../../model.safetensors comes to
        return f"files {sorted(found ^ set(listed))} are missing or not in {MANIFEST}"
    for name, (size, digest) in listed.items():
        path = folder / name
        if path.is_symlink():
            return f"{name} is a link"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes, not {size}"
        if _hash(path) != digest:
            return f"{name} has another sha256 than {MANIFEST} says"
    return None


def _committed(parent: Path) -> list[Path]:
    """Folders by step. A link could lead out of the run, so it is no checkpoint."""
    found = [p for p in parent.glob(f"{PREFIX}*") if p.name.removeprefix(PREFIX).isdigit()]
    folders = [p for p in found if p.is_dir() and not p.is_symlink()]
    return sorted(folders, key=_step)


def _superseded(folders: list[Path]) -> list[Path]:
    """Of `folders` by step, those older than the KEEP newest that are no milestone."""
    kept = {_step(folder) // MILESTONES: folder for folder in folders}
    return [folder for folder in folders[:-KEEP] if kept[_step(folder) // MILESTONES] != folder]


def _step(folder: Path) -> int:
    return int(folder.name.removeprefix(PREFIX))


def _refuse_full_disk(parent: Path, size: int) -> None:
    free = shutil.disk_usage(parent).free
    if free < size:
        raise OSError(f"only {free / MEGABYTE:.1f} MB are free")
    if free < 2 * size:
        say(f"{parent}: the disk is nearly full, {free / MEGABYTE:.1f} MB are free")


def _clear(folder: Path) -> None:
    """Remove a folder; a committed one stops being one first, should this be interrupted."""
    if folder.name.startswith(PREFIX):
        gone = folder.with_name(f"{DRAFT}gone-{folder.name}-{os.getpid()}")
        os.rename(folder, gone)
        folder = gone
    if folder.exists():
        shutil.rmtree(folder)


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    """Make renames in `folder` last through a power cut, where the system knows how."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
