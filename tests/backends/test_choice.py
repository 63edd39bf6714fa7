"""Which backend runs: what the probe chose, built already, untouched, and as long as it works."""

import importlib.util
import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from worldsim import doctor
from worldsim.backends import choice, store
from worldsim.backends.parts import Parts, Tensors
from worldsim.world import World

needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is not installed"
)


def write_probe(cache: Path, backend: str, **fingerprint: str) -> None:
    found = {"choice": backend, "fingerprint": {**store.fingerprint(), **fingerprint}}
    cache.mkdir(parents=True, exist_ok=True)
    (cache / "probe.json").write_text(json.dumps({"backends": found}), encoding="utf-8")


def test_torch_is_the_default_and_auto_without_a_probe(small: Path, cache: Path) -> None:
    assert World.load(small).backend == "torch"
    assert World.load(small, backend="auto").backend == "torch"
    with pytest.raises(ValueError, match="backend must be one of auto, torch"):
        World.load(small, backend="magic")


@needs_openvino
def test_auto_builds_nothing(
    small: Path, cache: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_probe(cache, "openvino")

    assert World.load(small, backend="auto").backend == "torch"
    (line,) = caplog.messages
    assert "doctor --probe" in line
    assert World.load(small, backend="openvino").backend == "openvino"  # asked for: built
    assert World.load(small, backend="auto").backend == "openvino"


def test_a_probe_of_another_machine_is_not_believed(
    cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_probe(cache, "openvino", cpu="another")

    assert choice.chosen() == "torch"
    assert "doctor --probe" in caplog.text


@pytest.mark.parametrize("text", ["[]", '{"backends": 3}', '{"backends": {"choice": "rm -rf"}}'])
def test_a_strange_probe_is_no_probe(cache: Path, text: str) -> None:
    cache.mkdir()
    (cache / "probe.json").write_text(text, encoding="utf-8")

    assert choice.chosen() == "torch"


@needs_openvino
def test_changed_files_are_not_loaded(
    small: Path, built: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(built, cache)
    (folder,) = (cache / "backends").glob("*-openvino-*")
    weights = folder / "paint.bin"
    weights.write_bytes(weights.read_bytes()[:-4] + b"evil")

    assert World.load(small, backend="openvino").backend == "torch"
    assert "was changed" in caplog.text


def test_a_folder_must_be_private_and_whole(tmp_path: Path) -> None:
    folder = tmp_path / "built"
    assert store.verified(folder) is None

    store.save(folder, {"a": b"1", "b": b"2"})
    store.save(folder, {"a": b"1"})
    assert store.verified(folder) == {"a": folder / "a"}

    folder.chmod(0o755)
    with pytest.raises(store.StoreError, match="0700"):
        store.verified(folder)
    folder.chmod(0o700)
    link = tmp_path / "link"
    link.symlink_to(folder)
    with pytest.raises(store.StoreError, match="0700"):
        store.verified(link)
    (folder / "manifest.json").write_text('{"../evil": "0"}')
    with pytest.raises(store.StoreError):
        store.verified(folder)


class Broken:
    """Works for some calls, then never again."""

    name = "broken"

    def __init__(self, good: int) -> None:
        self.good = good

    def prepare(self, batch: int) -> None:
        """Nothing."""

    def run(self, part: str, inputs: Tensors) -> Tensors | None:
        self.good -= 1
        if self.good < 0:
            raise RuntimeError("out of luck\nand more")
        return None


def test_a_backend_that_fails_leaves_the_game_to_torch(
    small: Path, cache: Path, frames: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    world, plain = World.load(small), World.load(small)
    world._parts = Parts(world._model, Broken(6), logging.getLogger("worldsim").warning)
    state = wanted = plain.reset(frames)

    for _ in range(3):
        state, _ = world.step(state, 1)
        wanted, _ = plain.step(wanted, 1)

    assert caplog.messages == ["backend broken failed, torch goes on: RuntimeError out of luck"]
    assert world.backend == "torch"
    assert torch.equal(state.picture, wanted.picture)


class Liar:
    """Quick, and wrong."""

    name = "openvino"

    def prepare(self, batch: int) -> None:
        """Nothing."""

    def run(self, part: str, inputs: Tensors) -> Tensors | None:
        return (inputs[0][..., :8] * 0,) if part == "refine" else None


def test_wrong_numbers_are_noticed_when_it_starts(
    small: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(choice, "open_runner", lambda *args, **kwargs: Liar())

    assert World.load(small, backend="openvino").backend == "torch"
    assert "numbers differ" in caplog.text


@needs_openvino
def test_a_probe_measures_checks_and_chooses(
    small: Path,
    built: Path,
    cache: Path,
    frames: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(built, cache)
    begun = World.load(small).reset(frames)
    monkeypatch.setattr(World, "reset", lambda self, seed=0: begun)  # it has no start clip
    names = {"torch", "native", "openvino"}  # those that take no minute to build
    monkeypatch.setattr(choice, "is_possible", lambda name: name in names)
    monkeypatch.setattr(doctor, "PROBE_TICKS", 30)
    monkeypatch.setattr(doctor, "FOLLOWED_TICKS", 5)

    found = doctor.probe(str(small))["backends"]

    assert isinstance(found, dict)
    rows = found["rows"]
    assert rows["torch"]["cpu_answer_ratio"] == 1.0
    assert rows["openvino"]["agrees"]
    assert found["choice"] in rows
    assert choice.chosen() == found["choice"]
    world = World.load(small, backend="auto")
    assert world.backend == found["choice"]
