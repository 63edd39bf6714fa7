"""What a world made says so, and signs for it; another implementation of C2PA reads it.

Certificates are made here: a root of nobody's, and one for signing below it.
"""

import datetime
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from worldsim.atlas import Atlas, write_atlas
from worldsim.cli import main, parse
from worldsim.clients.clip import ClipWriter, save_picture
from worldsim.clients.source import Facts
from worldsim.commands.serve import Serve
from worldsim.data.scan import scan
from worldsim.errors import WorldsimError
from worldsim.motion import Motion
from worldsim.provenance import PARTLY, SOURCE_TYPE, write_png
from worldsim.server.engine import Shown
from worldsim.server.recorder import Recorder, Subject
from worldsim.signing import Signer

pytest.importorskip("c2pa", reason="needs the extra provenance")
encypher_c2pa = pytest.importorskip("encypher_c2pa")
from cryptography import x509  # noqa: E402
from cryptography.hazmat.primitives import hashes, serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa  # noqa: E402
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID  # noqa: E402

SIZE = (48, 64)
# the reader knows no Matroska; what lies beside a file is bound to it in the same way for all kinds
STAND_IN = "video/x-msvideo"
HASH = hashlib.sha256(b"a world").hexdigest()
FACTS = Facts(
    name="hall", hash=HASH, fps=20.0, frame_size=SIZE, bindings={"noop": 0}, num_actions=1
)
PEM, PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8


def certificate(
    name: str, key: Any, by: str, by_key: Any, *, days: int = 30, use: Any = None
) -> Any:
    """One that may sign (`use`: an extended key usage), or a root."""
    now = datetime.datetime.now(datetime.UTC)
    names = [
        x509.Name(
            [
                x509.NameAttribute(NameOID.COMMON_NAME, one),
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "A test"),
            ]
        )
        for one in (name, by)
    ]
    is_root = use is None
    no = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    usage = x509.KeyUsage(
        digital_signature=not is_root, key_cert_sign=is_root, crl_sign=is_root, **no
    )
    above = x509.AuthorityKeyIdentifier.from_issuer_public_key(by_key.public_key())
    builder = (
        x509.CertificateBuilder(*reversed(names), key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=60))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=is_root, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(above, critical=False)
        .add_extension(usage, critical=True)
    )
    if use is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([use]), critical=False)
    return builder.sign(by_key, hashes.SHA256())


class Desk:
    """Files of somebody who signs."""

    def __init__(self, folder: Path, key: Any = None, **options: Any) -> None:
        folder.mkdir(exist_ok=True)
        self.certificates, self.key = folder / "chain.pem", folder / "key.pem"
        root_key, key = ec.generate_private_key(ec.SECP256R1()), key or new_key()
        root = certificate("root", root_key, "root", root_key)
        options = {"use": ExtendedKeyUsageOID.EMAIL_PROTECTION, **options}
        leaf = certificate("signer", key, "root", root_key, **options)
        self.root = root.public_bytes(PEM).decode()
        self.certificates.write_bytes(leaf.public_bytes(PEM) + root.public_bytes(PEM))
        self.key.write_bytes(key.private_bytes(PEM, PKCS8, serialization.NoEncryption()))

    def signer(self) -> Signer:
        return Signer(self.certificates, self.key)


def new_key() -> Any:
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setenv("ENCYPHER_C2PA_CONFIG_DIR", str(tmp_path / "reader"))
    return Desk(tmp_path / "desk")


def read(path: Path, desk: Desk, kind: str | None = None, manifest: Path | None = None) -> Any:
    """The independent reader's report; it asks nobody and tells nobody."""
    return encypher_c2pa.verify(
        path,
        kind,
        manifest_store=manifest,
        trust_pem=desk.root,
        no_default_trust=True,
        telemetry=False,
        online=False,
    )


def check(report: Any) -> None:
    """Whole, signed by whom we trust, and it says what made it."""
    assert report["validation_results"]["failure"] == []
    verdict = {key: report[key] for key in ("integrity", "signature", "hard_binding")}
    assert verdict == {"integrity": "valid", "signature": "valid", "hard_binding": "match"}
    assert report["trust"]["status"] == "valid_for_supplied_material"
    manifests = report["manifest_report"]
    manifest = manifests["manifests"][manifests["active_manifest"]]
    said = {one["label"]: one["data"] for one in manifest["assertions"]}
    (created,) = said["c2pa.actions.v2"]["actions"]
    assert created["action"] == "c2pa.created"
    assert created["digitalSourceType"] == SOURCE_TYPE
    assert created["softwareAgent"]["name"] == "worldsim"
    assert said["worldsim.world"] == {"name": "hall", "sha256": HASH}


def source_type(path: Path) -> str | None:
    """What the XMP of a PNG says, wherever in it the property is."""
    with Image.open(path) as image:
        packet = image.info.get("XML:com.adobe.xmp")
    if packet is None:
        return None
    name = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
    (found,) = [e.get(name) for e in ElementTree.fromstring(packet).iter() if name in e.attrib]
    return found


def write_clip(path: Path, signer: Signer | None) -> None:
    rng = np.random.default_rng(0)
    with ClipWriter(path, FACTS, signer) as writer:
        for _ in range(5):
            writer.add(rng.integers(0, 255, (*SIZE, 3), np.uint8))


def record(folder: Path, signer: Signer, ended: Callable[[str], None] = print) -> Path:
    subject = Subject(
        world="hall",
        world_hash=HASH,
        game="g",
        seed=3,
        fps=20.0,
        size=SIZE,
        sample_rate=None,
        controls=["noop"],
        signer=signer,
    )
    recorder = Recorder(folder, subject, ended)
    for seq in range(4):
        frame = np.full((*SIZE, 3), 40 * seq, np.uint8)
        recorder.add(
            Shown(seq=seq, action=0, frame=frame, sound=None, objects=None, is_alarm=False)
        )
    recorder.stop()
    return folder / f"{recorder.name}-0001.mkv"


# What everybody's files say -----------------------------------------------------------------------


def test_a_picture_says_in_xmp_what_made_it(tmp_path: Path) -> None:
    path = save_picture(np.zeros((*SIZE, 3), np.uint8), FACTS, tmp_path)

    assert source_type(path) == SOURCE_TYPE
    with Image.open(path) as image:
        assert f"world hall ({HASH[:12]})" in image.info["Comment"]
        assert image.info["Software"].startswith("worldsim ")


def test_real_and_imagined_side_by_side_is_another_source_type(tmp_path: Path) -> None:
    write_png(np.zeros((*SIZE, 3), np.uint8), tmp_path / "both.png", "both", PARTLY)
    write_png(np.zeros((*SIZE, 3), np.uint8), tmp_path / "real.png", "real", None)

    assert source_type(tmp_path / "both.png") == PARTLY != SOURCE_TYPE
    assert source_type(tmp_path / "real.png") is None


# Signed files -------------------------------------------------------------------------------------


def test_a_signed_picture_is_verified_by_another_reader(tmp_path: Path, desk: Desk) -> None:
    frame = np.arange(SIZE[0] * SIZE[1] * 3, dtype=np.uint8).reshape(*SIZE, 3)

    path = save_picture(frame, FACTS, tmp_path, desk.signer())

    check(read(path, desk))
    assert source_type(path) == SOURCE_TYPE
    with Image.open(path) as image:
        np.testing.assert_array_equal(np.asarray(image), frame)


def test_a_signed_clip_is_verified_by_another_reader(tmp_path: Path, desk: Desk) -> None:
    (tmp_path / "clips").mkdir()
    clip = tmp_path / "clips" / "clip.mp4"

    write_clip(clip, desk.signer())

    check(read(clip, desk))
    assert [result.frames for result in scan(clip.parent)] == [5]


def test_a_signed_atlas_is_verified_by_another_reader(tmp_path: Path, desk: Desk) -> None:
    frames = np.zeros((1, 2, 3, *SIZE, 3), np.uint8)
    motion = Motion(right=0.0, down=0.0, nearer=0.0)
    atlas = Atlas(
        world="hall", world_hash=HASH, names=["noop"], frames=frames, motions=[[motion] * 2]
    )

    write_atlas(atlas, 20.0, tmp_path / "atlas", desk.signer())

    for name in ("atlas.png", "atlas.mp4"):
        check(read(tmp_path / "atlas" / name, desk))


def test_a_recording_has_its_manifest_beside_it(tmp_path: Path, desk: Desk) -> None:
    path = record(tmp_path / "rec", desk.signer())
    beside = path.with_suffix(".c2pa")

    check(read(path, desk, STAND_IN, beside))
    names = sorted(file.name.removeprefix(path.stem) for file in path.parent.iterdir())
    assert names == [".c2pa", ".jsonl", ".mkv"]
    assert [result.ok for result in scan(path.parent)] == [True]  # training looks past it


@pytest.mark.parametrize("place", [0.3, 0.9])
def test_a_changed_file_is_noticed(tmp_path: Path, desk: Desk, place: float) -> None:
    clip, tape = tmp_path / "clip.mp4", record(tmp_path / "rec", desk.signer())
    write_clip(clip, desk.signer())

    for path in (clip, tape):
        data = bytearray(path.read_bytes())
        data[int(len(data) * place)] ^= 1
        path.write_bytes(data)

    assert read(clip, desk)["integrity"] != "valid"
    report = read(tape, desk, STAND_IN, tape.with_suffix(".c2pa"))
    assert (report["integrity"], report["hard_binding"]) == ("invalid", "mismatch")


@pytest.mark.parametrize(
    "make",
    [
        lambda: ec.generate_private_key(ec.SECP384R1()),
        lambda: rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate,
    ],
    ids=["p384", "rsa", "ed25519"],
)
def test_the_other_kinds_of_keys_sign_too(
    tmp_path: Path, desk: Desk, make: Callable[[], Any]
) -> None:
    other = Desk(tmp_path / "other", make())

    path = save_picture(np.zeros((*SIZE, 3), np.uint8), FACTS, tmp_path, other.signer())

    check(read(path, other))
    assert read(path, desk)["trust"]["status"] != "valid_for_supplied_material"


# What goes wrong ----------------------------------------------------------------------------------


def encrypted(desk: Desk) -> None:
    secret = serialization.BestAvailableEncryption(b"secret")
    desk.key.write_bytes(new_key().private_bytes(PEM, PKCS8, secret))


def of_another_kind(desk: Desk) -> None:
    key = dsa.generate_private_key(1024)
    desk.key.write_bytes(key.private_bytes(PEM, PKCS8, serialization.NoEncryption()))


WRONG: list[tuple[Callable[[Desk], object], str]] = [
    (lambda desk: desk.key.unlink(), r"key\.pem: cannot be read: No such file"),
    (lambda desk: desk.key.write_text("secret"), r"key\.pem: not a private key in PEM without"),
    (encrypted, r"key\.pem: not a private key in PEM without a password"),
    (of_another_kind, r"key\.pem: C2PA signs with keys of P-256, P-384"),
    (lambda desk: desk.certificates.write_text("x"), r"chain\.pem: no certificate in PEM"),
    (
        lambda desk: Desk(desk.key.parent.parent / "b").key.replace(desk.key),
        r"key\.pem: not the key of the first certificate in .*chain\.pem",
    ),
    (
        lambda desk: Desk(desk.key.parent, use=ExtendedKeyUsageOID.SERVER_AUTH),
        r"chain\.pem: this certificate cannot sign: ",
    ),
    (lambda desk: Desk(desk.key.parent, days=-1), r"chain\.pem: this certificate cannot sign: "),
]


@pytest.mark.parametrize(("spoil", "message"), WRONG)
def test_what_cannot_sign_is_one_sentence_before_anything_is_made(
    desk: Desk, spoil: Callable[[Desk], object], message: str
) -> None:
    spoil(desk)

    with pytest.raises(WorldsimError, match=message) as error:
        desk.signer()

    assert error.value.exit_code == 3 and "\n" not in str(error.value)


def test_play_with_a_wrong_key_ends_with_3_and_without_the_extra_with_4(
    tmp_path: Path,
    desk: Desk,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = ["play", "--headless", "--out", str(tmp_path / "clip.mp4")]
    sign = ["--sign", str(desk.certificates), str(desk.key)]
    assert main([*flags, "--sign", str(desk.key), str(desk.certificates)]) == 3

    monkeypatch.setitem(__import__("sys").modules, "c2pa", None)
    assert main([*flags, *sign]) == 4
    assert "pip install 'worldsim-engine[provenance]'" in capsys.readouterr().err
    assert not (tmp_path / "clip.mp4").exists()


def test_a_file_that_cannot_be_signed_stays_as_it_was(tmp_path: Path, desk: Desk) -> None:
    path = tmp_path / "not-a-clip.mp4"
    path.write_bytes(b"nothing")

    with pytest.raises(WorldsimError, match=r"not-a-clip\.mp4: could not be signed: "):
        desk.signer().sign(path, "video/mp4", world="hall", world_hash=HASH)

    assert path.read_bytes() == b"nothing"
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == [path.name]


def test_a_recording_that_cannot_be_signed_is_kept_and_told(
    tmp_path: Path, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    reasons: list[str] = []
    signer = desk.signer()

    def expired(*_: object, **__: object) -> Path:
        raise WorldsimError("the certificate has expired")

    monkeypatch.setattr(signer, "sign", expired)
    path = record(tmp_path / "rec", signer, reasons.append)

    assert reasons == ["the certificate has expired"]
    assert [(result.ok, result.frames) for result in scan(path.parent)] == [(True, 4)]


# The command line ---------------------------------------------------------------------------------


def test_serve_signs_recordings_only_and_hands_the_key_to_its_workers(
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = ["serve", "--sign", "a b.pem", "key.pem"]
    with pytest.raises(SystemExit) as stop:
        parse(flags)
    assert stop.value.code == 2 and "--recordings" in capsys.readouterr().err

    command = parse([*flags, "--recordings", "tapes", "--workers", "2"])
    assert isinstance(command, Serve)
    assert command.sign == (Path("a b.pem"), Path("key.pem"))
    worker = parse(["serve", *command._arguments()])
    assert isinstance(worker, Serve)
    assert (worker.sign, worker.recordings, worker.workers) == (command.sign, Path("tapes"), 1)


@pytest.mark.slow
def test_a_clip_of_play_is_signed_with_the_flag(tmp_path: Path, desk: Desk) -> None:
    clip = tmp_path / "clip.mp4"
    sign = ["--sign", str(desk.certificates), str(desk.key)]

    assert main(["play", "--headless", "--frames", "3", "--out", str(clip), *sign]) == 0

    report = read(clip, desk)
    assert (report["integrity"], report["signature"]) == ("valid", "valid")
    assert '"name": "doom-hall"' in json.dumps(report)
