"""The stage `sound`: it learns, it resumes to the bit, and it asks for sound that can be heard."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from odd import write_odd
from safetensors.torch import load_file

from worldsim.evaluation.run import evaluate
from worldsim.sound import Sound, new_sound
from worldsim.training import loop
from worldsim.training.metrics import read_metrics
from worldsim.training.run import train
from worldsim.training.sound_stage import SoundStage
from worldsim.training.streams import Streams
from worldsim.world import World

FIXTURE = Path(__file__).parents[1] / "data" / "doom-hall"


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world that has learned everything but sound."""
    run = tmp_path_factory.mktemp("runs") / "silent"
    stages = ("tokenizer", "dynamics")
    return train(FIXTURE, run, steps=2, preset="small", actions="labelled", stages=stages)


def add_sound(silent: Path, run: Path, **more: object) -> Path:
    options = {"steps": 6, "preset": "small", "actions": "labelled", "stages": ("sound",)}
    return train(FIXTURE, run, init=silent, **{**options, **more})  # type: ignore[arg-type]


def test_sound_is_added_to_a_silent_world_and_nothing_else_changes(
    silent: Path, tmp_path: Path
) -> None:
    world = World.load(add_sound(silent, tmp_path / "run"))
    before, after = (
        load_file(f / "model.safetensors") for f in (silent, tmp_path / "run" / "world")
    )

    assert World.load(silent).sample_rate is None
    assert world.sample_rate == 22050
    assert all(torch.equal(after[k], v) for k, v in before.items())
    assert {k.split(".")[0] for k in after.keys() - before.keys()} == {"sound"}
    _, out = world.step(world.reset(), 5)
    assert out.audio is not None and out.audio.shape == (1, 630)
    lines = read_metrics(tmp_path / "run")
    assert {"spectrum", "convergence", "codes", "right", "mel"} <= lines[-1].keys()
    assert json.loads((tmp_path / "run" / "plan.json").read_text()) == {"steps": {"sound": 6}}


def test_a_video_without_sound_is_a_quiet_one_for_the_codes(tmp_path: Path) -> None:
    """A stream has one array per source and episode."""
    shutil.copytree(FIXTURE, tmp_path / "videos")
    write_odd(tmp_path / "videos" / "silent.mp4", frames=40)

    world = train(tmp_path / "videos", tmp_path / "run", steps=10, preset="small")

    first = next(x for x in read_metrics(tmp_path / "run") if x["stage"] == "actions")
    assert np.isfinite(first["heard"])
    assert World.load(world).config.learned_actions


def test_its_world_can_be_heard_and_graded(silent: Path, tmp_path: Path) -> None:
    world = World.load(add_sound(silent, tmp_path / "run"))
    report = evaluate(
        world,
        FIXTURE,
        tier="smoke",
        blocks=["audio"],
        twin=None,
        out=tmp_path / "out",
        log=lambda text: None,
    )

    found = report["audio"]
    assert isinstance(found, dict)
    assert {"onset_f1", "onset_f1_shuffled", "av_offset_ms", "sound_ms"} <= found.keys()
    assert found["onset_f1_silence"]["value"] == 0.0
    assert (tmp_path / "out" / "sound.png").is_file()


def test_a_run_that_goes_on_equals_one_that_never_stopped(
    silent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "METRICS_EVERY", 1)
    whole = add_sound(silent, tmp_path / "whole")
    real, left = SoundStage.update, [4]

    def stops(self: SoundStage, progress: float) -> dict[str, torch.Tensor]:
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        return real(self, progress)

    monkeypatch.setattr(SoundStage, "update", stops)
    with pytest.raises(KeyboardInterrupt):
        add_sound(silent, tmp_path / "cut", checkpoint_every=0.0)
    monkeypatch.setattr(SoundStage, "update", real)
    again = add_sound(silent, tmp_path / "cut", checkpoint_every=0.0, resume=True)

    first, second = (load_file(f / "model.safetensors") for f in (whole, again))
    assert all(torch.equal(first[k], second[k]) for k in first)
    curves = [
        [{k: v for k, v in line.items() if k != "seconds"} for line in read_metrics(f.parent)]
        for f in (whole, again)
    ]
    assert len(curves[0]) == 6 and curves[0] == curves[1]


def test_videos_without_sound_train_and_play_as_before(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    write_odd(tmp_path / "videos" / "a.mkv", frames=60)
    world = World.load(train(tmp_path / "videos", tmp_path / "run", steps=3, preset="small"))

    _, out = world.step(world.reset(), 0)
    assert world.sample_rate is None and world.config.sound is None
    assert out.audio is None
    assert "sound" not in json.loads((tmp_path / "run" / "plan.json").read_text())["steps"]
    with pytest.raises(ValueError, match="nothing to learn"):
        train(tmp_path / "videos", tmp_path / "again", steps=3, preset="small", stages=("sound",))


def test_it_learns_a_burst_that_an_action_makes() -> None:
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    ticks, samples = 600, 630
    actions = (random.random(ticks) < 0.2).astype(np.int64)
    sounds = actions[:, None] * 2000 * random.standard_normal((ticks, samples))
    latents = random.standard_normal((ticks, 6, 8)).astype(np.float16)
    sources = [[sounds.astype(np.int16)], [latents], [actions]]
    streams = Streams(sources, lanes=6, ticks=16, jump=0.1, seed=0)
    stage = SoundStage(Sound(new_sound(35.0, 6, 8, 2)), streams)

    for step in range(130):
        stage.update(min(0.34, step / 160))
    sound, loud = stage.model.eval().requires_grad_(False), []
    state = sound.initial_state(1)
    for tick in range(40):
        burst = torch.tensor([int(tick % 10 == 5)])
        heard, state = sound.step(state, torch.randn(1, 6, 8), burst, *sound.chance([0], [tick]))
        loud.append(float(heard.square().mean().sqrt()))

    there = [x for tick, x in enumerate(loud) if tick % 10 == 5]
    rest = [x for tick, x in enumerate(loud) if tick % 10 not in (5, 6)]
    assert np.mean(there) > 5 * np.mean(rest)
