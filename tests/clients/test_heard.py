"""The sound of a world arrives: in clips, over the wire, and in the window's loop."""

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pygame
import pytest
import torch
from fake_games import local
from fake_server import server_of
from fake_world import FakeWorld
from PIL import Image

from worldsim.clients.clip import ClipWriter
from worldsim.clients.game import Game
from worldsim.clients.headless import play_script
from worldsim.clients.local import LocalSource
from worldsim.clients.remote import RemoteSource
from worldsim.clients.source import Beginning
from worldsim.clients.sync_client import Client
from worldsim.clients.window import Window
from worldsim.dynamics import DynamicsConfig
from worldsim.folder import WorldConfig, write_world
from worldsim.model import WorldModel
from worldsim.tokenizer import TokenizerConfig
from worldsim.training.begin import with_sound
from worldsim.world import World


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Random weights that can be heard."""
    folder = tmp_path_factory.mktemp("worlds") / "w"
    config = with_sound(
        WorldConfig(
            name="w",
            fps=35.0,
            actions=["noop", "attack"],
            bindings={"noop": 0, "attack": 1},
            tokenizer=TokenizerConfig(height=32, width=48, channels=8),
            dynamics=DynamicsConfig(
                rows=2, columns=3, channels=8, num_actions=2, width=20, heads=5, state_size=4
            ),
        )
    )
    torch.manual_seed(0)
    model = WorldModel(config)
    assert model.sound is not None
    model.sound.codec.spectrum.bias.data[: model.sound.codec.config.bins] += 2
    write_world(folder, config, model)
    Image.new("RGB", (48, 32), (90, 90, 90)).save(folder / "start.png")
    return World.load(folder)


def test_a_headless_clip_has_the_sound_of_every_frame(world: World, tmp_path: Path) -> None:
    clip = tmp_path / "a.mp4"
    source = LocalSource(world, Beginning())
    play_script(source, [(1, 40)], frames=40, clip=clip, on_first=lambda: None)

    with av.open(str(clip)) as container:
        parts = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
        rate = container.streams.audio[0].rate
    with av.open(str(clip)) as container:
        frames = sum(1 for _ in container.decode(video=0))
    heard = np.concatenate(parts)
    assert rate == 22050 and frames == 40
    assert 0 <= len(heard) - 40 * 630 < 2 * 1024, "AAC ends on a whole block"
    assert heard.std() > 0.01


def test_the_wire_carries_what_the_world_says(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world, "arm", lambda: None, raising=False)  # what a fake world counts
    state, told = world.reset(seed=0), []
    for action in (1, 0, 1):
        state, out = world.step(state, action)
        assert out.audio is not None
        told.append(out.audio[0])

    with server_of(world) as server:  # type: ignore[arg-type]
        client = Client.connect(server.url)
        assert client.world.sample_rate == 22050
        client.start(seed=0, clock="step")
        heard = [client.step(action).sound for action in (1, 0, 1)]
        client.close()

    for ours, theirs in zip(told, heard, strict=True):
        assert np.abs(ours - theirs).max() < 1e-4


def test_a_clip_of_a_game_on_a_server_has_its_sound(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world, "arm", lambda: None, raising=False)  # what a fake world counts
    clip = tmp_path / "a.mp4"

    with server_of(world) as server:  # type: ignore[arg-type]
        source = RemoteSource(Client.connect(server.url), Beginning())
        assert source.facts.sample_rate == 22050
        play_script(source, [(1, 20)], frames=20, clip=clip, on_first=lambda: None)
        source.close()

    with av.open(str(clip)) as container:
        heard = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    assert len(heard) >= 20 * 630
    assert heard.std() > 0.01


def test_a_game_plays_what_it_shows_until_it_is_muted(tmp_path: Path) -> None:
    source = local(FakeWorld(has_extras=True, sample_rate=2000.0))
    window = Window(source.facts)
    game = Game(source, window, on_first=lambda: None, folder=tmp_path)
    heard: list[float] = []
    game._speaker.play = lambda sound: heard.append(float(np.mean(sound)))  # type: ignore[method-assign, arg-type]
    pygame.event.clear()
    pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=pygame.K_m))
    game.run(frames=5)
    window.close()

    assert heard == [0.5] * 5
    assert game._speaker.is_muted


@pytest.mark.parametrize("sample_rate", [22_000, 22_050, 120_000])
def test_a_clip_has_its_sound_whatever_its_rate(tmp_path: Path, sample_rate: int) -> None:
    facts = replace(local().facts, sample_rate=sample_rate)
    samples = int(sample_rate / facts.fps)
    tone = np.sin(np.arange(samples) / 5).astype(np.float32) / 2

    with ClipWriter(tmp_path / "clip.mp4", facts) as clip:
        for _ in range(50):
            clip.add(np.zeros((*facts.frame_size, 3), np.uint8), tone)

    with av.open(str(tmp_path / "clip.mp4")) as container:
        heard = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
        rate = container.streams.audio[0].rate
    assert len(heard) / rate == pytest.approx(50 / facts.fps, abs=0.1)
    assert np.abs(heard).max() > 0.2
