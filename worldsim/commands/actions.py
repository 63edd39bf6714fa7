"""`worldsim actions`: see what the actions of a world do, and bind controls to them."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from worldsim.commands.report import finish
from worldsim.commands.sign import SignFlag, signer_of
from worldsim.errors import DataError, MachineError

if TYPE_CHECKING:
    from worldsim.training.few import Fit


@dataclass(frozen=True, kw_only=True)
class Actions:
    """Draw what each action of a world does, from several scenes, with its measured mean motion.

    Controls are bound first, if asked for, and kept in the world's config.json. Ends with one JSON
    line on stdout; motion is in pixels per tick: of the picture to the right, down, and away from
    its middle (nearer).
    """

    world: tyro.conf.Positional[str] = "doom-hall"
    """Name of a shipped world, or a world folder."""
    out: Path = Path("atlas")
    """Folder for atlas.png and atlas.mp4."""
    bind: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """CONTROL=CODE, as in left=3; may be given several times. Other bindings stay."""
    fit: Path | None = None
    """Folder of recordings with side files: bind each control to the code that means it."""
    labels: int = 200
    """With --fit: how many labelled frames are read, half of them of all codes alike."""
    scenes: int = 4
    """Scenes that every action is tried from."""
    frames: int = 12
    """Ticks that every action is held for."""
    sign: SignFlag = None
    """Sign the atlas (C2PA) with a certificate chain and its key, two PEM files."""
    json_file: Annotated[Path | None, tyro.conf.arg(name="json")] = None
    """Also write the JSON object to this file."""

    def __post_init__(self) -> None:
        for flag, number in (("labels", self.labels), ("scenes", self.scenes)):
            if number < 1:
                raise ValueError(f"--{flag} must be >= 1, got {number}")
        if self.frames < 1:
            raise ValueError(f"--frames must be >= 1, got {self.frames}")
        for text in self.bind:
            control, _, code = text.partition("=")
            if not control.isidentifier() or not code.isdecimal():
                raise ValueError(f"--bind must look like left=3, got {text!r}")

    def run(self) -> int:
        """Bind, draw, print one JSON line, return the exit code."""
        from worldsim.runtime import prepare

        prepare(threads=1)
        from worldsim.atlas import draw_atlas, write_atlas
        from worldsim.folder import find_world
        from worldsim.world import World

        signer = signer_of(self.sign)
        folder = find_world(self.world)
        try:
            found = self._fit(folder)
            if self.bind:
                bind_by_hand(folder, self.bind)
        except OSError as error:  # the worlds of an installation may not be ours to change
            raise MachineError(f"{folder}: {error.strerror}; bind in a copy of it") from error
        world = World.load(folder)
        atlas = draw_atlas(world, scenes=self.scenes, ticks=self.frames)
        write_atlas(atlas, world.fps, self.out, signer)
        print(f"the atlas is in {self.out}", file=sys.stderr)
        report: dict[str, Any] = {
            "command": "actions",
            "world": world.name,
            "bindings": world.bindings,
            "codes": [
                {"code": code, "name": name, "motion": atlas.graded(code)}
                for code, name in enumerate(atlas.names)
            ],
        }
        if found is not None:
            report["fit"] = {"labels": found.labels, "agreement": round(found.agreement, 4)}
        finish(report, self.json_file)
        return 0

    def _fit(self, folder: Path) -> "Fit | None":
        if self.fit is None:
            return None
        if not self.fit.is_dir():
            raise DataError(f"{self.fit}: no such folder; --fit takes a folder of recordings")
        import tempfile

        from worldsim.training.few import fit_bindings

        with tempfile.TemporaryDirectory() as cache:
            return fit_bindings(folder, self.fit, Path(cache), labels=self.labels)


def bind_by_hand(folder: Path, pairs: tuple[str, ...]) -> None:
    """CONTROL=CODE pairs into a world, beside what is bound."""
    from worldsim.bindings import bind_in_folder

    try:
        bind_in_folder(folder, {c: int(code) for c, _, code in (p.partition("=") for p in pairs)})
    except ValueError as error:
        raise SystemExit(f"--bind {error}") from error
