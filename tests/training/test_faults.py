"""What can go wrong while a stage trains, and what is left afterwards.

F41 a disk that fails, F42 damage, F43 pickle, F44 weights that are no numbers, F46 a loss that is
none, F48 footage that changes, F51 two trainers. F50 and F52, of several processes, are in
test_distributed.py; F49 is of data loader workers, which training does not have.
"""

import json
import multiprocessing
import shutil
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
import torch
from line import Line

from worldsim.errors import CheckpointError, TrainingError, WorldsimError
from worldsim.training import checkpoint, commit, loop
from worldsim.training.checkpoint import Place, load_checkpoint, save_checkpoint
from worldsim.training.commit import Parts, newest, read
from worldsim.training.lock import locked
from worldsim.training.loop import MAX_SKIPPED, Care, fit
from worldsim.training.metrics import read_metrics
from worldsim.training.streams import Streams

EAGER = Care(checkpoint_every=0.0)
AGAIN = Care(resume=True)


def folder(run: Path) -> Path:
    return run / "checkpoints" / "line"


def recommitted(path: Path, step: int) -> Parts:
    """The content of the newest checkpoint, to be changed and committed with a manifest that is
    right: what somebody could send."""
    last = newest(path)
    assert last is not None
    parts = read(last)
    notes = {name: note for name, note in parts.notes.items() if name != "manifest"}
    return Parts({k: dict(v) for k, v in parts.tensors.items()}, notes)


def test_a_resumed_stage_has_what_it_had(tmp_path: Path) -> None:
    fit(Line(), steps=7, run=tmp_path)
    again, shadow = Line(), torch.optim.swa_utils.AveragedModel(Line().model)

    place = load_checkpoint(tmp_path, again, shadow)

    assert place == Place(step=7)
    names = {path.name for path in (folder(tmp_path) / "step-00000007").iterdir()}
    assert names == {
        "model.safetensors", "ema.safetensors", "optimizer.safetensors", "carried.safetensors",
        "rng.safetensors", "data.json", "trainer.json", "manifest.json",
    }  # fmt: skip
    assert again.carried.abs().sum() > 0
    assert {g["lr"] for o in again.optimizers for g in o.param_groups} != {0.1}


def test_f42_the_one_before_is_used_and_strict_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = fit(Line(), steps=30, run=tmp_path, care=EAGER)
    path = folder(tmp_path) / "step-00000030" / "optimizer.safetensors"
    path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(CheckpointError, match=r"step-00000030: damaged: optimizer\.safetensors"):
        fit(Line(), steps=30, run=tmp_path, care=Care(resume=True, strict=True))
    capsys.readouterr()
    resumed = fit(Line(), steps=30, run=tmp_path, care=AGAIN)

    assert "step-00000030: damaged" in capsys.readouterr().err
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
    assert newest(folder(tmp_path)) == folder(tmp_path) / "step-00000030"


def test_f42_a_checkpoint_of_another_shape_says_so(tmp_path: Path) -> None:
    fit(Line(), steps=3, run=tmp_path)
    other = Line()
    other.model = torch.nn.Linear(2, 1)

    with pytest.raises(CheckpointError, match="made by another configuration"):
        load_checkpoint(tmp_path, other, torch.optim.swa_utils.AveragedModel(other.model))


def test_f43_a_pickle_in_a_checkpoint_is_refused_and_not_run(tmp_path: Path) -> None:
    fit(Line(), steps=3, run=tmp_path)
    sentinel = tmp_path / "sentinel"
    call = f"cos\nsystem\n(S'touch {sentinel}'\ntR.".encode()
    draft = tmp_path / "evil"
    shutil.copytree(folder(tmp_path) / "step-00000003", draft)
    (draft / "optimizer.safetensors").write_bytes(call)
    manifest = json.loads((draft / "manifest.json").read_text())
    entry = manifest["files"]["optimizer.safetensors"]
    entry["size"], entry["sha256"] = len(call), commit._hash(draft / "optimizer.safetensors")
    (draft / "manifest.json").write_text(json.dumps(manifest))
    draft.rename(folder(tmp_path) / "step-00000004")

    with pytest.raises(CheckpointError, match=r"optimizer\.safetensors: cannot be read"):
        fit(Line(), steps=9, run=tmp_path, care=AGAIN)

    assert not sentinel.exists()


@pytest.mark.parametrize("part", ["model", "ema"])
def test_f44_weights_that_are_no_numbers_are_named(tmp_path: Path, part: str) -> None:
    fit(Line(), steps=3, run=tmp_path)
    parts = recommitted(folder(tmp_path), 4)
    name = next(k for k in parts.tensors[part] if k.endswith("weight"))
    parts.tensors[part][name].fill_(float("nan"))  # type: ignore[index]
    commit.commit(folder(tmp_path), 4, parts)

    with pytest.raises(CheckpointError, match=rf"{name} holds values that are not finite"):
        fit(Line(), steps=9, run=tmp_path, care=AGAIN)


def test_f45_a_checkpoint_of_another_format_says_which(tmp_path: Path) -> None:
    fit(Line(), steps=3, run=tmp_path)
    parts = recommitted(folder(tmp_path), 4)
    parts.notes["trainer"]["format_version"] = 99
    commit.commit(folder(tmp_path), 4, parts)

    with pytest.raises(CheckpointError, match="format_version is 99, this worldsim reads 1"):
        fit(Line(), steps=9, run=tmp_path, care=AGAIN)


def test_f41_a_save_that_fails_on_the_way_is_said_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*args: object) -> None:
        raise CheckpointError("no space")

    stage = Line({3: lambda: monkeypatch.setattr(checkpoint, "commit", full), 6: monkeypatch.undo})
    fit(stage, steps=9, run=tmp_path, care=EAGER)

    assert capsys.readouterr().err.count("no space; training goes on") == 3
    assert newest(folder(tmp_path)) == folder(tmp_path) / "step-00000009"


def test_f41_a_last_save_that_fails_is_an_error_and_the_one_before_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise CheckpointError("no space")

    stage = Line({8: lambda: monkeypatch.setattr(checkpoint, "commit", full)})
    with pytest.raises(CheckpointError, match="no space"):
        fit(stage, steps=9, run=tmp_path, care=EAGER)

    assert newest(folder(tmp_path)) == folder(tmp_path) / "step-00000008"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_f46_an_update_that_is_not_finite_changes_nothing_and_is_counted(
    tmp_path: Path, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "METRICS_EVERY", 1)
    seen: list[torch.Tensor] = []

    def spoil(factor: float) -> None:
        seen.append(next(stage.model.parameters()).detach().clone())
        stage.spoil = factor

    stage = Line({5: lambda: spoil(value), 8: lambda: spoil(1.0)})
    fit(stage, steps=20, run=tmp_path)

    assert torch.equal(seen[0], seen[1])
    skipped = [line["step"] for line in read_metrics(tmp_path) if "skipped" in line]
    assert skipped == [5, 6, 7]  # what they carried on is not finite, either, and was dropped
    assert load_checkpoint(
        tmp_path, Line(), torch.optim.swa_utils.AveragedModel(Line().model)
    ) == Place(step=20, skipped=3)


def test_f46_too_many_in_a_row_stop_the_run_at_its_last_good_checkpoint(tmp_path: Path) -> None:
    stage = Line()
    stage._events[12] = lambda: setattr(stage, "spoil", float("nan"))

    with pytest.raises(
        TrainingError, match=rf"{MAX_SKIPPED} updates up to 21 are not finite; .*diagnostics"
    ):
        fit(stage, steps=90, run=tmp_path, care=EAGER)

    report = json.loads((tmp_path / "diagnostics.json").read_text())
    assert (report["stage"], report["skipped"]) == ("line", MAX_SKIPPED)
    assert report["last"][-1]["step"] == 12 + MAX_SKIPPED - 1
    assert newest(folder(tmp_path)) == folder(tmp_path) / "step-00000012"
    assert fit(Line(), steps=20, run=tmp_path, care=AGAIN).get_parameter("weight").isfinite().all()


def test_f46_weights_that_are_no_numbers_are_never_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Line()
    monkeypatch.setattr(loop, "is_finite", lambda model: stage._updates < 5)

    with pytest.raises(TrainingError, match="weights of update 4 are not finite"):
        fit(stage, steps=9, run=tmp_path, care=EAGER)

    assert newest(folder(tmp_path)) == folder(tmp_path) / "step-00000004"


def test_f48_other_footage_is_said_and_every_lane_starts_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(Line(), steps=5, run=tmp_path)
    stage = Line(footage="b")

    load_checkpoint(tmp_path, stage, torch.optim.swa_utils.AveragedModel(Line().model))

    assert "the footage has changed" in capsys.readouterr().err
    assert stage.streams.next().jumped.all()


def test_f48_another_number_of_lanes_is_another_configuration(tmp_path: Path) -> None:
    fit(Line(), steps=5, run=tmp_path)
    stage = Line()
    place = stage.streams.position()
    stage.streams = Streams(stage.streams._sources, lanes=2, ticks=3, jump=0.1, seed=0, footage="a")

    with pytest.raises(ValueError, match="4 lanes in the checkpoint, 2 now"):
        stage.streams.seek(place)
    with pytest.raises(CheckpointError, match="another configuration"):
        load_checkpoint(tmp_path, stage, torch.optim.swa_utils.AveragedModel(Line().model))


def hold(run: Path, begun: Event, end: Event) -> None:
    with locked(run):
        begun.set()
        end.wait(60)


def test_f51_the_second_trainer_of_a_folder_is_told_who_the_first_one_is(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    begun, end = context.Event(), context.Event()
    first = context.Process(target=hold, args=(tmp_path, begun, end))
    first.start()
    assert begun.wait(60)

    with pytest.raises(WorldsimError, match=f"process {first.pid} on "), locked(tmp_path):
        pass

    first.kill()  # leaves its files behind, which hinder nobody
    first.join()
    assert (tmp_path / ".holder.json").exists()
    with locked(tmp_path):
        pass


def test_saving_does_not_disturb_chance(tmp_path: Path) -> None:
    stage = Line()
    torch.manual_seed(3)
    wanted = torch.rand(4)
    torch.manual_seed(3)

    save_checkpoint(tmp_path, stage, torch.optim.swa_utils.AveragedModel(stage.model), Place())

    assert torch.equal(torch.rand(4), wanted)
