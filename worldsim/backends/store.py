"""What backends have built, kept in the user's cache folder, and loaded only if nobody touched it.

    CACHE/backends/WORLD-BACKEND-FINGERPRINT/   manifest.json and the files that it names

Some of these files are machine code: loading one runs it. So a folder counts only if it belongs to
the user and nobody else can write there (mode 0700), and each file must have the SHA-256 that the
manifest gives. The fingerprint stands for processor, versions and the model's own source: change
one, and the folder is not found any more.
"""

import functools
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from worldsim import doctor

MANIFEST = "manifest.json"
SOURCES = (
    "../tokenizer",
    "../dynamics",
    "tokenizer",
    "dynamics",
    "backends",
)  # beside this package
VERSIONS = ("worldsim-engine", "torch", "openvino")


class StoreError(Exception):
    """A folder of built files must not be used."""


@functools.cache
def fingerprint() -> dict[str, str | None]:
    """What built files and measurements depend on, besides the world."""
    versions = {name: doctor.installed(name) for name in VERSIONS}
    return {"cpu": doctor.cpu_name(), **versions, "source": _source()}


def folder(world_hash: str, backend: str) -> Path:
    """Where the files of a backend for a world are, or would be."""
    mark = hashlib.sha256(json.dumps(fingerprint()).encode()).hexdigest()
    return doctor.cache_dir() / "backends" / f"{world_hash[:16]}-{backend}-{mark[:12]}"


def save(target: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder, whole or not at all; it takes the place of an older one."""
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = Path(tempfile.mkdtemp(dir=target.parent))  # mode 0700
    try:
        digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        for name, data in files.items():
            (fresh / name).write_bytes(data)
        (fresh / MANIFEST).write_text(json.dumps(digests) + "\n", encoding="utf-8")
        shutil.rmtree(target, ignore_errors=True)
        fresh.rename(target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def verified(source: Path) -> dict[str, Path] | None:
    """The files of a folder by name, None if there is no such folder; StoreError if it is not as
    it was written."""
    try:
        found = source.lstat()
    except FileNotFoundError:
        return None
    if os.name == "posix":
        is_private = stat.S_ISDIR(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o700
        if not is_private or found.st_uid != os.getuid():
            raise StoreError(
                f"{source} is not a folder of mode 0700 that belongs to you; delete it"
            )
    try:
        digests = json.loads((source / MANIFEST).read_text(encoding="utf-8"))
        paths = {str(name): source / str(name) for name in digests}
        for name, path in paths.items():
            if path.parent != source or _sha256(path) != digests[name]:
                raise StoreError(f"{path} was changed; delete {source}")
    except (OSError, ValueError, TypeError) as error:
        raise StoreError(f"{source} is damaged; delete it: {error}") from error
    return paths


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _source() -> str:
    """A digest of the code that built files come from, wherever it is installed."""
    here = Path(doctor.__file__).parent
    folders = (here / name for name in SOURCES)
    return digest_of(path for folder in folders for path in sorted(folder.glob("*.[pc]*")))


def digest_of(paths: Iterable[Path]) -> str:
    """One short digest of the contents of several files."""
    total = hashlib.sha256()
    for path in paths:
        if path.suffix in (".py", ".cpp"):
            total.update(path.read_bytes())
    return total.hexdigest()[:16]
