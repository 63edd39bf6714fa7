"""Worlds that leave this machine: a folder of their own, and the model hub."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError
from safetensors import SafetensorError

from worldsim.errors import DataError, MachineError
from worldsim.folder import (
    HUB_FILES,
    find_world,
    read_config,
    read_weights,
    write_config,
    write_world,
)
from worldsim.model import WorldModel
from worldsim.training.card import FIGURES, write_card


def export(
    world: str | Path, out: Path, *, name: str | None = None, keyframes: bool = True
) -> dict[str, str | int]:
    """Write a world to the folder `out`, under another `name` if that is given, and without the
    frames of its footage if `keyframes` is False; what was written, JSON-ready.

    Raises CheckpointError if there is no such world or it is damaged, DataError if there is
    something in `out`, MachineError if it cannot be written.
    """
    folder = find_world(world)
    config = read_config(folder)
    model = WorldModel(config)
    digest = read_weights(folder, model)
    config = replace(config, name=name or config.name)
    if out.is_file():
        raise DataError(f"{out}: is a file; give a folder with --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise DataError(f"{out}: is not empty; give another folder with --out")
        for start in folder.glob("start.*"):
            shutil.copyfile(start, out / start.name)
        if keyframes or model.keyframes is None:
            shutil.copyfile(folder / "model.safetensors", out / "model.safetensors")
            write_config(out, config)
        else:
            model.keyframes = None
            # figures of the world with them are not figures of this one
            training = {k: v for k, v in config.training.items() if k not in FIGURES}
            config = replace(config, keyframes=0, training=training)
            write_world(out, config, model)
            digest = read_weights(out, model)
        write_card(out, config)
    except (OSError, SafetensorError) as error:
        raise MachineError(f"{out}: cannot be written: {error}") from error
    size = sum(path.stat().st_size for path in out.iterdir())
    return {"folder": str(out), "name": config.name, "hash": digest, "bytes": size}


def refuse_strangers(repository: str) -> None:
    """MachineError if nobody is logged in on the model hub here, or if it cannot be reached."""
    with _hub_errors(repository):
        HfApi(token=True).whoami()


def publish(folder: Path, repository: str, *, is_public: bool) -> str:
    """Upload a world folder to `repository`, OWNER/NAME, on the model hub, which is made if it is
    not there; its address. MachineError if the hub cannot be reached, or refuses."""
    hub = HfApi(token=True)
    with _hub_errors(repository):
        hub.create_repo(repository, private=not is_public, exist_ok=True)
        hub.upload_folder(
            repo_id=repository,
            folder_path=folder,
            allow_patterns=HUB_FILES,
            commit_message=f"worldsim export of {read_config(folder).name}",
        )
    return f"{hub.endpoint}/{repository}"


@contextmanager
def _hub_errors(repository: str) -> Iterator[None]:
    # of the base classes one is what the hub's HTTP client raises without an answer
    refused = cast(tuple[type[Exception], ...], (*HfHubHTTPError.__bases__, HFValidationError))
    try:
        yield
    except LocalTokenNotFoundError as error:
        raise MachineError(
            f"{repository}: nobody is logged in on the hub here; `hf auth login` does that"
        ) from error
    except refused as error:
        raise MachineError(f"{repository}: {error}") from error
