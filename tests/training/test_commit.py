"""Checkpoint folders: whole or not there, checked before they are believed (F40, F41, F42, F54)."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from worldsim.errors import CheckpointError
from worldsim.training import commit as commits
from worldsim.training.commit import MANIFEST, Parts, clean, commit, newest, read


def parts(value: float = 1.0) -> Parts:
    return Parts({"model": {"w": torch.full((300,), float(value))}}, {"trainer": {"step": value}})


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    """Two commits, of steps 1 and 2."""
    for step in (1, 2):
        commit(tmp_path / "p", step, parts(step))
    return tmp_path / "p"


def test_what_was_committed_reads_back(parent: Path) -> None:
    folder = newest(parent)

    assert folder is not None
    back = read(folder)
    assert torch.equal(back.tensors["model"]["w"], parts(2).tensors["model"]["w"])
    assert back.notes["trainer"] == {"step": 2}


def test_the_last_three_are_kept_and_the_order_is_of_numbers(parent: Path) -> None:
    for step in (9, 10, 100, 1000):
        commit(parent, step, parts(step))

    assert newest(parent) == parent / "step-00001000"
    assert {commits._step(folder) for folder in parent.iterdir()} == {10, 100, 1000}


def test_of_every_five_thousand_steps_the_last_is_kept_too(parent: Path) -> None:
    for step in (4_900, 5_000, 9_000, 9_999, 99_999_998, 99_999_999, 100_000_000, 100_000_001):
        commit(parent, step, parts(step))

    kept = {commits._step(folder) for folder in parent.iterdir()}
    assert kept == {4_900, 9_999, 99_999_999, 100_000_000, 100_000_001}
    assert newest(parent) == parent / "step-100000001"


def test_nothing_committed_is_none_and_drafts_are_no_commits(tmp_path: Path) -> None:
    (tmp_path / ".tmp-5-99").mkdir()
    (tmp_path / ".tmp-5-99" / "model.safetensors").write_bytes(b"half")

    assert newest(tmp_path) is None
    clean(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_f42_a_flip_of_any_byte_is_noticed_and_the_one_before_is_used(
    parent: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("model.safetensors", "trainer.json", MANIFEST):
        path = parent / "step-00000002" / name
        whole = path.read_bytes()
        for place in range(0, len(whole), 97):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            if name == MANIFEST and _means_the_same(path.read_bytes(), whole):
                continue
            assert newest(parent) == parent / "step-00000001", f"{name}, byte {place}"
            said = capsys.readouterr().err
            assert said.count("\n") == 1
            assert "step-00000002: damaged" in said
        path.write_bytes(whole)
    assert newest(parent) == parent / "step-00000002"


def _means_the_same(text: bytes, other: bytes) -> bool:
    try:
        return bool(json.loads(text) == json.loads(other))
    except ValueError:
        return False


def damage_by_truncation(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def damage_by_deletion(folder: Path) -> None:
    (folder / "trainer.json").unlink()


def damage_by_addition(folder: Path) -> None:
    (folder / "more.safetensors").write_bytes(b"")


def damage_by_link(folder: Path) -> None:
    outside = folder.parent / "outside"
    shutil.move(folder / "model.safetensors", outside)
    (folder / "model.safetensors").symlink_to(outside)


def damage_by_traversal(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    files = manifest["files"]
    files["../step-00000001/model.safetensors"] = files.pop("model.safetensors")
    (folder / "model.safetensors").unlink()
    (folder / MANIFEST).write_text(json.dumps(manifest))


DAMAGES = [
    damage_by_truncation,
    damage_by_deletion,
    damage_by_addition,
    damage_by_link,
    damage_by_traversal,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_f42_f54_any_damage_leads_to_the_one_before_and_strict_refuses(
    parent: Path, damage: Callable[[Path], None]
) -> None:
    damage(parent / "step-00000002")

    assert newest(parent) == parent / "step-00000001"
    with pytest.raises(CheckpointError, match="step-00000002: damaged"):
        newest(parent, strict=True)


def test_f42_the_damaged_step_can_be_committed_again(parent: Path) -> None:
    damage_by_truncation(parent / "step-00000002")

    commit(parent, 2, parts(2))

    assert newest(parent) == parent / "step-00000002"


def test_f42_if_all_are_damaged_nothing_is_made_up(parent: Path) -> None:
    for folder in parent.iterdir():
        damage_by_deletion(folder)

    with pytest.raises(CheckpointError, match="every checkpoint is damaged"):
        newest(parent)


def test_f54_a_link_is_no_checkpoint(parent: Path, tmp_path: Path) -> None:
    shutil.copytree(parent / "step-00000002", tmp_path / "elsewhere")
    (parent / "step-00000003").symlink_to(tmp_path / "elsewhere")

    assert newest(parent) == parent / "step-00000002"


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_f41_a_failing_disk_names_path_and_size_and_leaves_the_one_before(
    parent: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(commits.os, call, fail)
    with pytest.raises(CheckpointError, match=r"step-00000003.*0\.0 MB.*No space left"):
        commit(parent, 3, parts(3))
    monkeypatch.undo()

    assert newest(parent) == parent / "step-00000002"
    assert not list(parent.glob(".tmp-*"))


def test_f41_a_limit_on_the_file_size_is_one_sentence(parent: Path) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(CheckpointError, match="could not be saved"):
            commit(parent, 3, parts(3))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert newest(parent) == parent / "step-00000002"


def test_f41_a_full_disk_is_noticed_before_anything_is_written(
    parent: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = shutil.disk_usage(parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2000))
    commit(parent, 3, parts(3))
    assert "the disk is nearly full" in capsys.readouterr().err

    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=5))
    with pytest.raises(CheckpointError, match=r"only 0\.0 MB are free"):
        commit(parent, 4, parts(4))


def test_f40_a_folder_that_is_being_dropped_stops_being_a_commit_first(
    parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        os.unlink(path / "model.safetensors")
        raise OSError("interrupted")

    monkeypatch.setattr(shutil, "rmtree", fail)
    for step in (3, 4):
        commit(parent, step, parts(step))

    assert {path.name for path in parent.glob("step-*")} == {
        "step-00000002", "step-00000003", "step-00000004",
    }  # fmt: skip


def test_what_is_large_lies_in_several_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commits, "MOST_BYTES", 1000)
    tensors = {name: torch.full((100,), float(i)) for i, name in enumerate("abcdefg")}

    folder = commit(tmp_path, 1, Parts({"carried": tensors}))

    files = sorted(path.name for path in folder.glob("carried*"))
    assert files == [
        "carried.1.safetensors",
        "carried.2.safetensors",
        "carried.3.safetensors",
        "carried.safetensors",
    ]
    back = read(folder).tensors["carried"]
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)
