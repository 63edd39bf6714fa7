"""From recorded video to a world that plays, end to end, in a few updates."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from odd import write_odd
from PIL import Image
from safetensors.torch import load_file

from worldsim.codes import hold
from worldsim.data.video import read_frames
from worldsim.errors import ArgumentError, DataError, MachineError, WorldsimError
from worldsim.evaluation.run import evaluate
from worldsim.folder import read_config, write_world
from worldsim.model import WorldModel
from worldsim.provenance import PARTLY
from worldsim.training import latents
from worldsim.training.metrics import Metrics, read_metrics
from worldsim.training.run import train
from worldsim.world import World

FIXTURE = Path(__file__).parents[1] / "data" / "doom-hall"
SIZE = (48, 64)  # pixels: what the small preset picks for it


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder after ten updates on the recorded fixture."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    train(FIXTURE, folder, steps=10, preset="small")
    return folder


def test_a_few_updates_give_a_world_that_plays(run: Path) -> None:
    world = World.load(run / "world")

    state = world.reset(seed=0)
    state, out = world.step(state, world.num_actions - 1)

    assert world.fps == 35.0
    assert out.frame.shape == (1, *SIZE, 3)
    assert sorted(world.bindings.values()) == list(range(8))


def test_its_codes_are_inferred_from_frames(run: Path) -> None:
    world = World.load(run / "world")
    frames = read_frames(FIXTURE / "doom-hall-010200.mkv", SIZE, count=80)

    codes = world.infer_actions(frames)

    assert codes is not None and codes.shape == (79,)
    assert set(codes.tolist()) <= set(range(world.num_actions))
    assert len(world.config.holds) == world.num_actions
    with pytest.raises(ValueError, match="frames must be at least two"):
        world.infer_actions(frames[:1])

    world.config = replace(world.config, holds=[len(codes)] * world.num_actions)
    held = world.infer_actions(frames)

    assert held is not None
    assert held.tolist() == hold(codes, world.config.holds).tolist() != codes.tolist()


def test_its_codes_can_be_graded(run: Path) -> None:
    report = evaluate(
        World.load(run / "world"),
        FIXTURE,
        tier="smoke",
        blocks=["lam"],
        twin=None,
        out=None,
        log=lambda text: None,
    )

    found = report["lam"]
    assert isinstance(found, dict)
    assert 1.0 <= found["perplexity"]["value"] <= 8.0
    assert 0.0 <= found["map_200"]["value"] <= 1.0
    assert 0.0 <= found["cycle"]["value"] <= 1.0
    assert {key for key, graded in found.items() if graded["value"] is None} == {
        "map_1000",  # the recording is too short
        "delta4_twin",
    }


def test_few_labels_name_the_codes(run: Path, tmp_path: Path) -> None:
    train(
        FIXTURE,
        tmp_path,
        steps=2,
        init=run / "world",
        stages=("dynamics",),
        actions="few",
        labels=FIXTURE,
        preset="small",
    )

    world = World.load(tmp_path / "world")
    assert {"forward", "turn_left"} <= world.bindings.keys()
    assert len(world.actions) == 8
    with pytest.raises(ValueError, match="labels is a folder of recordings"):
        train(FIXTURE, tmp_path, actions="few")


def test_labelled_actions_have_the_names_of_the_side_file_and_no_model(tmp_path: Path) -> None:
    train(FIXTURE, tmp_path / "run", steps=2, actions="labelled", preset="small")

    world = World.load(tmp_path / "run" / "world")
    assert list(world.bindings)[:3] == ["noop", "forward", "backward"]
    assert world.infer_actions(np.zeros((2, *SIZE, 3), dtype=np.uint8)) is None


def test_learned_actions_need_no_side_file_and_may_begin_in_a_labelled_world(
    tmp_path: Path,
) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    shutil.copy(FIXTURE / "doom-hall-010200.mkv", videos / "a.mkv")
    labelled = train(FIXTURE, tmp_path / "old", steps=1, actions="labelled", preset="small")

    learned = train(videos, tmp_path / "new", steps=8, init=labelled, preset="small")

    assert read_config(learned).learned_actions
    assert World.load(learned).infer_actions(np.zeros((3, *SIZE, 3), np.uint8)) is not None
    with pytest.raises(WorldsimError, match="its actions are learned; use --actions learned"):
        train(FIXTURE, tmp_path / "back", steps=1, init=learned, actions="labelled")


def test_codes_are_learned_by_networks_that_never_saw_a_label(tmp_path: Path) -> None:
    labelled = train(FIXTURE, tmp_path / "old", steps=1, actions="labelled", preset="small")

    learned = train(
        FIXTURE, tmp_path / "new", steps=1, init=labelled, preset="small", stages=["actions"]
    )

    old, new = (load_file(folder / "model.safetensors") for folder in (labelled, learned))
    one, other = (WorldModel(read_config(learned)).state_dict() for _ in range(2))
    random = [name for name in old if not torch.equal(one[name], other[name])]
    kept = {name for name in random if torch.equal(old[name], new[name])}
    assert {name.split(".")[0] for name in kept} == {"tokenizer", "sound"}
    assert all(name.startswith(("tokenizer.", "sound.codec.")) for name in kept)
    first, second = (run["steps"] for run in read_config(learned).training["history"])
    assert set(first) == {"tokenizer", "sound"}
    assert second == {"actions": 1}


def test_learned_codes_go_on_only_where_that_is_asked_for(run: Path, tmp_path: Path) -> None:
    world = run / "world"
    how: Any = {"steps": 1, "init": world, "preset": "small"}
    asked = train(FIXTURE, tmp_path / "asked", stages=["actions"], **how)
    train(FIXTURE, tmp_path / "all", **how)

    old, new = (load_file(folder / "model.safetensors") for folder in (world, asked))
    changed = {name.split(".")[0] for name in old if not torch.equal(old[name], new[name])}
    assert changed == {"actions"}
    assert read_config(asked).training["history"][-1]["steps"] == {"actions": 1}
    assert "heard" in read_metrics(tmp_path / "asked")[-1]
    assert "actions" not in read_config(tmp_path / "all" / "world").training["history"][-1]["steps"]


def test_the_plan_and_the_metrics_are_written(run: Path) -> None:
    plan = json.loads((run / "plan.json").read_text())
    lines = read_metrics(run)

    assert plan == {
        "steps": {"tokenizer": 3, "actions": 1, "objects": 0, "dynamics": 5, "sound": 1}
    }
    assert {line["stage"] for line in lines} == {"tokenizer", "actions", "dynamics", "sound"}
    assert all(np.isfinite(line["seconds"]) for line in lines)


def test_a_person_can_watch_it_learn(run: Path) -> None:
    strips = sorted((run / "strips").iterdir())

    assert [path.name for path in strips] == ["dynamics-00000005.png", "tokenizer-00000003.png"]
    for path in strips:
        with Image.open(path) as picture:
            assert picture.size == (8 * SIZE[1], 2 * SIZE[0] + 2)
            assert "AI-generated" in picture.info["Comment"]
            assert PARTLY in picture.info["XML:com.adobe.xmp"]


def test_the_card_tells_of_the_run(run: Path) -> None:
    card = (run / "world" / "README.md").read_text()

    assert "AI-generated" in card
    assert "3 tokenizer, 1 actions, 0 objects, 5 dynamics, 1 sound" in card


def test_init_continues_from_the_world_and_keeps_its_account(run: Path, tmp_path: Path) -> None:
    world = run / "world"

    train(FIXTURE, tmp_path / "more", steps=2, init=world, stages=("dynamics",), preset="small")

    history = json.loads((tmp_path / "more" / "world" / "config.json").read_text())["training"]
    assert [h["steps"]["dynamics"] for h in history["history"]] == [5, 2]


def test_a_world_keeps_frames_of_its_footage(run: Path) -> None:
    world = World.load(run / "world")

    assert world.has_keyframes and not world.without_keyframes().has_keyframes


def test_a_world_without_keyframes_gets_some(run: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(run / "world", bare)
    config = replace(read_config(bare), keyframes=0)
    model = WorldModel(config)
    write_world(bare, config, model)

    train(FIXTURE, tmp_path / "more", steps=2, init=bare, stages=("dynamics",), preset="small")

    before = load_file(bare / "model.safetensors")
    after = load_file(tmp_path / "more" / "world" / "model.safetensors")
    assert {name.split(".")[0] for name in after.keys() - before.keys()} == {"keyframes"}
    assert not World.load(bare).has_keyframes
    assert World.load(tmp_path / "more" / "world").has_keyframes


def test_a_world_that_is_continued_keeps_its_latents(run: Path, tmp_path: Path) -> None:
    train(FIXTURE, tmp_path / "more", steps=2, init=run / "world", stages=("tokenizer",))

    before = load_file(run / "world" / "model.safetensors")
    after = load_file(tmp_path / "more" / "world" / "model.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("tokenizer.decoder.") for name in changed)


def test_resume_of_a_finished_run_trains_and_encodes_nothing_more(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (run / "metrics.jsonl").read_text()
    weights = (run / "world" / "model.safetensors").read_bytes()

    def no_encoding(*args: object) -> None:
        raise AssertionError("encoded again")

    monkeypatch.setattr(latents, "_encode", no_encoding)
    train(FIXTURE, run, preset="small", resume=True, steps=9)

    assert "goes on with its own plan" in capsys.readouterr().err
    assert (run / "metrics.jsonl").read_text() == before
    assert (run / "world" / "model.safetensors").read_bytes() == weights


def test_a_new_run_in_an_old_folder_sets_the_old_one_aside(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "again")
    before = (run / "metrics.jsonl").read_text()

    train(FIXTURE, tmp_path / "again", steps=1, preset="small", stages=("tokenizer",))

    assert (tmp_path / "again" / "before" / "metrics.jsonl").read_text() == before
    assert (tmp_path / "again" / "before" / "checkpoints" / "dynamics").is_dir()
    assert [line["step"] for line in read_metrics(tmp_path / "again")] == [0]


def test_what_is_mistyped_leaves_an_earlier_run_as_it_is(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(run, out)

    with pytest.raises(DataError, match="not a folder"):
        train(tmp_path / "nowhere", out, steps=8, preset="small")

    assert (out / "plan.json").is_file()
    assert not (out / "before").exists()


@pytest.mark.parametrize(
    ("how", "rule"),
    [
        ({"minutes": 0}, "minutes must be above 0, got 0"),
        ({"minutes": float("nan")}, "minutes must be above 0, got nan"),
        ({"steps": -5}, "steps must be at least 1, got -5"),
        ({"minutes": 1, "steps": 1}, "give one of them"),
        ({"size": (90, 100)}, "size must be multiples of 16, got 100x90"),
        ({"size": (0, 0)}, "size must be multiples of 16, got 0x0"),
        ({"size": (96, 128), "init": "doom-hall"}, "size is that of the world to go on from"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"name": "../hall"}, "name must be a name, not a path, got '../hall'"),
    ],
)
def test_what_cannot_be_asked_for_is_one_sentence_before_any_work(
    tmp_path: Path, how: dict[str, Any], rule: str
) -> None:
    with pytest.raises(ArgumentError, match=rule) as error:
        train(FIXTURE, tmp_path / "out", preset="small", **how)

    assert error.value.exit_code == 2
    assert not (tmp_path / "out").exists()


def test_what_it_picks_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    videos = tmp_path / "videos"
    shutil.copytree(FIXTURE, videos)
    write_odd(videos / "broken.mkv", frames=1)

    train(videos, tmp_path / "run", steps=2, preset="small")

    said = capsys.readouterr().err
    assert "skipped: " in said
    assert "footage: 1 of 1 videos, 591 frames, 0.3 min, at 64x48 and 35 Hz" in said
    assert "plan: 0 tokenizer, 0 actions, 0 objects, 2 dynamics, 0 sound updates" in said


def test_f41_a_run_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match=r"file.*: Not a directory; checkpoints"):
        train(FIXTURE, tmp_path / "file" / "run", steps=2, preset="small")


def test_f41_a_disk_that_fails_outside_of_a_save_is_one_sentence_and_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Metrics, "write", full)
        with pytest.raises(MachineError, match="No space left on device"):
            train(FIXTURE, tmp_path, steps=2, preset="small")
    train(FIXTURE, tmp_path, preset="small", resume=True)

    assert (tmp_path / "world" / "config.json").is_file()


def test_a_folder_without_videos_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no usable video"):
        train(tmp_path / "empty", tmp_path / "out", steps=2)


def test_an_unknown_preset_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="preset must be one of default, base, large, small, got 'huge'"
    ):
        train(FIXTURE, tmp_path, preset="huge")


@pytest.mark.slow
def test_f53_ctrl_c_of_the_command_saves_and_exits_with_130(tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [
        sys.executable, "-m", "worldsim.cli", "train", str(FIXTURE), "--out", str(run),
        "--preset", "small", "--steps", "100000",
    ]  # fmt: skip
    log = tmp_path / "log"
    with log.open("w") as file:
        trainer = subprocess.Popen(command, stderr=file, env=dict(os.environ))
    until = time.monotonic() + 120
    while not (run / "metrics.jsonl").is_file() or not (run / "metrics.jsonl").stat().st_size:
        assert trainer.poll() is None, log.read_text()
        assert time.monotonic() < until
        time.sleep(0.1)

    trainer.send_signal(signal.SIGINT)

    assert trainer.wait(60) == 130
    assert list((run / "checkpoints" / "tokenizer").glob("step-*"))
    assert log.read_text().endswith("worldsim: interrupted\n")


def test_stages_must_be_known_and_of_use(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="stages must be among tokenizer, actions, objects, dynamics"
    ):
        train(FIXTURE, tmp_path, stages=("dream",))
    with pytest.raises(ValueError, match="nothing to learn"):
        train(FIXTURE, tmp_path, preset="small", actions="labelled", stages=("actions",))
