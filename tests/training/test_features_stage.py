"""The student learns what phi sees, its detector what does not follow, both without labels."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from panning import pan

from worldsim.artifacts import KINDS
from worldsim.evaluation.block_alarm import auroc
from worldsim.folder import read_config
from worldsim.tokenizer import Tokenizer, TokenizerConfig, to_pixels
from worldsim.tokenizer.features import Own, frozen
from worldsim.tokenizer.student import Student
from worldsim.training.features_stage import FeaturesStage, kept_back, with_limits
from worldsim.training.footage import Footage
from worldsim.training.own_features import own_features
from worldsim.training.run import train
from worldsim.training.streams import Streams
from worldsim.world import World

CONFIG = TokenizerConfig(height=48, width=64, channels=16, encoder_width=64)
FIXTURE = Path(__file__).parents[1] / "data" / "doom-hall"
Trained = tuple[FeaturesStage, Tokenizer, dict[str, float], dict[str, float]]


@pytest.fixture(scope="module")
def trained() -> Trained:
    """A stage after 150 updates, its tokenizer, its first losses and its last ones."""
    torch.manual_seed(0)
    tokenizer, phi = Tokenizer(CONFIG), frozen(Own())
    frames = [pan(150, seed).frames for seed in range(4)]
    with torch.no_grad():
        latents = [tokenizer.encoder(to_pixels(torch.from_numpy(f))).half().numpy() for f in frames]
    streams = Streams([frames, latents], lanes=32, ticks=1, jump=1.0, seed=0)
    stage = FeaturesStage(Student(CONFIG, phi.size), tokenizer, phi, streams)
    first = {k: float(v) for k, v in stage.update(0.0).items()}
    for update in range(1, 150):
        last = {k: float(v) for k, v in stage.update(update / 150).items()}
    return stage, tokenizer, first, last


def test_the_student_comes_to_see_what_phi_sees(trained: Trained) -> None:
    _, _, first, last = trained

    assert last["student"] < 0.1 * first["student"]


@torch.no_grad()
def test_the_detector_tells_artifacts_from_motion_on_new_footage(trained: Trained) -> None:
    stage, tokenizer, _, _ = trained
    torch.manual_seed(1)
    pixels = to_pixels(torch.from_numpy(pan(120, 9).frames))
    latents = tokenizer.encoder(pixels)
    real = stage.model.score(latents[:-1], latents[1:]).double().numpy()

    for name, least in (("cut", 0.9), ("patch_noise", 0.65)):  # of an encoder that knows nothing
        tamper: Callable[..., torch.Tensor] = KINDS[name]
        bad = torch.stack([tamper(x, pixels[(i + 60) % 119]) for i, x in enumerate(pixels[1:])])
        score = stage.model.score(latents[:-1], tokenizer.encoder(bad)).double().numpy()
        assert auroc(score, real).mean() > least, name


def test_limits_are_what_real_footage_keeps(trained: Trained) -> None:
    stage, tokenizer, _, _ = trained
    with torch.no_grad():
        latents = tokenizer.encoder(to_pixels(torch.from_numpy(pan(150, 5).frames)))

    limits = with_limits(stage.model, frozen(Own()), [latents.numpy()])

    score = stage.model.score(latents[:-1], latents[1:])
    assert (score > limits.alarm).sum() <= 1
    assert 0 < limits.cosine < 1 and limits.epsilon > 0 and limits.size == 64


def test_some_episodes_are_kept_back_if_there_are_many() -> None:
    assert kept_back(range(12)) == ([*range(9), 10, 11], [9])
    assert kept_back([1, 2]) == ([1, 2], [1, 2])


def knows_moments(phi: Callable[[torch.Tensor], torch.Tensor], frames: list[Any]) -> float:
    """Share of other moments that look less like one than it does itself, two ticks later and in
    less light."""
    now = np.concatenate([f[::20] for f in frames])
    later = np.concatenate([f[2::20] for f in frames])
    with torch.no_grad():
        seen = phi(torch.from_numpy(now))
        likeness = seen @ phi(torch.from_numpy((0.7 * later).astype(np.uint8))).T
    others = ~torch.eye(len(seen), dtype=torch.bool)
    return float((likeness < likeness.diagonal()[:, None])[others].float().mean())


def test_own_features_know_a_moment_by_its_neighbours(tmp_path: Path) -> None:
    frames = [pan(200, seed).frames for seed in range(3)]
    footage = Footage(
        paths=[Path(f"{i}") for i in range(3)],
        names=[f"{i}" for i in range(3)],
        frames=frames,
        source=[np.arange(200)] * 3,
        actions=[np.zeros(200, dtype=np.int64)] * 3,
        fps=12.0,
    )
    torch.manual_seed(5)
    dice = torch.get_rng_state()

    phi = own_features(footage, tmp_path, updates=60)

    assert torch.equal(torch.get_rng_state(), dice)  # nothing after it depends on it
    assert knows_moments(phi, frames) > 0.95
    assert knows_moments(frozen(Own()), frames) < 0.8  # it is learned, not in the architecture
    kept = list((tmp_path / "features").iterdir())
    again = own_features(footage, tmp_path, updates=60)
    torch.testing.assert_close(
        again(torch.from_numpy(frames[1][:2])), phi(torch.from_numpy(frames[1][:2]))
    )
    assert list((tmp_path / "features").iterdir()) == kept


def test_a_world_gets_its_alarm_and_plays_as_before(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    train(FIXTURE, old, steps=3, preset="small", stages=["tokenizer"])
    train(
        FIXTURE,
        new,
        steps=3,
        preset="small",
        init=old / "world",
        stages=["features"],
        features="own",
    )

    without, world = World.load(old / "world"), World.load(new / "world")

    known = read_config(new / "world").features
    assert read_config(old / "world").features is None
    assert known is not None and known.phi.startswith("own") and known.alarm < 1e9
    seen = np.random.default_rng(0).integers(0, 256, (2, 4, 48, 64, 3)).astype(np.uint8)
    state, shown = world.step(world.reset(seen, seed=1), 0)
    _, before = without.step(without.reset(seen, seed=1), 0)
    assert before.alarm is None
    assert shown.alarm is not None and shown.alarm.shape == (2,) and shown.alarm.dtype == np.bool_
    assert (shown.frame == before.frame).all()
    assert world.snapshot(state)  # and a snapshot needs nothing more
