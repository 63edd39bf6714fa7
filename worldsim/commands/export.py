"""`worldsim export`: a world as a folder of its own, to change, to pass on, or to publish."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from worldsim.commands.report import finish
from worldsim.errors import MachineError


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a world into a folder that needs nothing else: settings, weights, model card, start.

    Everything is read and checked first. Ends with one JSON line on stdout: the folder, the name,
    the hash of the weights, the bytes, and where it was published, if it was.
    """

    world: tyro.conf.Positional[str] = "doom-hall"
    """Name of a shipped world, a world folder, or OWNER/NAME on a model hub."""
    out: Path
    """The folder to write; it must be empty, or not be there yet."""
    name: str | None = None
    """Another name for the world."""
    keyframes: bool = True
    """Whether to keep the frames of its footage in it; without them the weights have another hash,
    and games saved in the world do not load."""
    push: str | None = None
    """OWNER/NAME: also publish it on the model hub, under the account that is logged in there."""
    public: bool = False
    """With --push: for everybody, not for the account alone."""
    json_file: Annotated[Path | None, tyro.conf.arg(name="json")] = None
    """Also write the JSON object to this file."""

    def __post_init__(self) -> None:
        if self.name is not None and (not self.name or "/" in self.name):
            raise ValueError(f"--name must be a name without /, got {self.name!r}")
        if self.push is not None and self.push.count("/") != 1:
            raise ValueError(f"--push must look like OWNER/NAME, got {self.push!r}")
        if self.public and self.push is None:
            raise ValueError("--public is for --push OWNER/NAME")

    def run(self) -> int:
        """Write it, print one JSON line, return the exit code."""
        from worldsim.sharing import export, publish, refuse_strangers

        if self.push is not None:
            refuse_strangers(self.push)  # before anything is written
        exported = export(self.world, self.out, name=self.name, keyframes=self.keyframes)
        report: dict[str, object] = {"command": "export", **exported}
        if self.push is not None:
            try:
                report["url"] = publish(self.out, self.push, is_public=self.public)
            except MachineError as error:
                retry = f"`hf upload {self.push} {self.out}` tries it again"
                raise MachineError(f"{error}; {self.out} is written, {retry}") from error
        finish(report, self.json_file)
        return 0
