"""Content Credentials: what a world made, signed with a key of the user's (C2PA, ISO 22144).

The manifest says that a trained model made the file, which world with which sha256, and by which
software. PNG and mp4 carry it inside; Matroska has no place for it, so there it lies beside the
file as NAME.c2pa, bound to every byte of it. Needs the extra `provenance`.
"""

import io
import json
import os
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np

from worldsim import __version__
from worldsim.errors import MachineError, WorldsimError
from worldsim.provenance import SOURCE_TYPE, notice, write_png

SIDECAR = ".c2pa"
Kind = Literal["image/png", "video/mp4", "video/x-matroska"]
BESIDE: Kind = "video/x-matroska"  # cannot carry a manifest
# a thumbnail would be larger than most of these files
SETTINGS = {"builder": {"thumbnail": {"enabled": False}}}
CURVES = {"secp256r1": b"es256", "secp384r1": b"es384", "secp521r1": b"es512"}


class Signer:
    """Signs files with one key."""

    def __init__(self, certificates: Path, key: Path) -> None:
        """PEM files: the certificate of whoever signs and those above it; its key, not encrypted.

        Signs something at once, so that what is wrong shows now and not when there is a file.
        Raises MachineError without the extra, WorldsimError for files that cannot sign.
        """
        try:
            self._c2pa: Any = import_module("c2pa")
            from cryptography.hazmat.primitives import serialization
        except ImportError as error:
            raise MachineError(
                "signing needs the extra provenance: pip install 'worldsim-engine[provenance]'"
            ) from error
        self._certificates = certificates
        self._chain = _read(certificates)
        try:
            loaded = serialization.load_pem_private_key(_read(key), None)
        except (ValueError, TypeError) as error:  # TypeError: it is encrypted
            raise WorldsimError(f"{key}: not a private key in PEM without a password") from error
        self._algorithm = _algorithm(loaded, key)
        pkcs8 = serialization.PrivateFormat.PKCS8
        form = serialization.Encoding.PEM, pkcs8, serialization.NoEncryption()
        self._key = loaded.private_bytes(*form)
        self._must_belong(loaded, key)
        self._try()

    def sign(self, path: Path, kind: Kind, *, world: str, world_hash: str) -> Path:
        """Sign a file that was made by the world; which file has the manifest.

        The file is replaced as a whole, or left as it was. WorldsimError if it cannot be done.
        """
        target = path.with_suffix(SIDECAR) if kind == BESIDE else path
        draft = path.with_name(f".{path.name}.signing")
        try:
            with path.open("rb") as source, draft.open("w+b") as signed:
                manifest = self._sign(kind, source, signed, path.name, world, world_hash)
            if kind == BESIDE:
                draft.write_bytes(manifest)
            os.replace(draft, target)
        except (OSError, self._c2pa.C2paError) as error:
            draft.unlink(missing_ok=True)
            raise WorldsimError(f"{path}: could not be signed: {_reason(error)}") from error
        return target

    def _sign(
        self, kind: Kind, source: Any, signed: Any, title: str, world: str, world_hash: str
    ) -> bytes:
        manifest = json.dumps(_manifest(title, world, world_hash))
        info = self._c2pa.C2paSignerInfo(self._algorithm, self._chain, self._key, None)
        with (
            self._c2pa.Signer.from_info(info) as signer,
            self._c2pa.Builder(manifest, self._c2pa.Context.from_dict(SETTINGS)) as builder,
        ):
            if kind == BESIDE:
                builder.set_no_embed()
            return bytes(builder.sign(signer, kind, source, signed))

    def _must_belong(self, key: Any, name: Path) -> None:
        from cryptography.x509 import load_pem_x509_certificates

        try:
            leaf = load_pem_x509_certificates(self._chain)[0]
        except ValueError as error:
            raise WorldsimError(f"{self._certificates}: no certificate in PEM") from error
        if leaf.public_key() != key.public_key():
            raise WorldsimError(
                f"{name}: not the key of the first certificate in {self._certificates}"
            )

    def _try(self) -> None:
        """Sign a picture that nobody will see."""
        picture = io.BytesIO()
        write_png(np.zeros((8, 8, 3), np.uint8), picture, "")
        picture.seek(0)
        try:
            self._sign("image/png", picture, io.BytesIO(), "trial", "trial", "0" * 64)
        except self._c2pa.C2paError as error:
            raise WorldsimError(
                f"{self._certificates}: this certificate cannot sign: {_reason(error)}"
            ) from error


def _manifest(title: str, world: str, world_hash: str) -> dict[str, Any]:
    """C2PA 2.x: what happened to the file, and which world did it."""
    software = {"name": "worldsim", "version": __version__}
    created = {
        "action": "c2pa.created",
        "digitalSourceType": SOURCE_TYPE,
        "softwareAgent": software,
        "description": notice(world, world_hash),
    }
    return {
        "title": title,
        "claim_generator_info": [software],
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": [created]}},
            {"label": "worldsim.world", "data": {"name": world, "sha256": world_hash}},
        ],
    }


def _algorithm(key: Any, path: Path) -> bytes:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in CURVES:
        return CURVES[key.curve.name]
    if isinstance(key, rsa.RSAPrivateKey):
        return b"ps256"
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return b"ed25519"
    raise WorldsimError(f"{path}: C2PA signs with keys of P-256, P-384, P-521, Ed25519 or RSA")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise WorldsimError(f"{path}: cannot be read: {error.strerror}") from error


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error).rstrip(".")
