"""The flag `--sign CERT KEY` of the verbs that write what a world made."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from worldsim.signing import Signer

SignFlag = Annotated[tuple[Path, Path] | None, tyro.conf.arg(metavar="CERT KEY")]


def signer_of(files: tuple[Path, Path] | None) -> "Signer | None":
    """Who signs; None: nobody. Raises what Signer raises, before anything is made."""
    if files is None:
        return None
    from worldsim.signing import Signer

    return Signer(*files)
