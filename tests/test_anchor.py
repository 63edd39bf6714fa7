"""A world that has lost itself goes on from a keyframe, once, and only if it may."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from worldsim.anchor import REST, RINGS, TOO_MANY, anchored, ringing_after
from worldsim.world import World


def rings(alarms: list[bool], ringing: int = 0) -> tuple[list[int], list[bool]]:
    """What `ringing` is after each of some ticks, and whether it was lost."""
    now, all_ringing, all_lost = torch.tensor([ringing]), [], []
    for alarm in alarms:
        now, is_lost = ringing_after(now, torch.tensor([alarm]))
        all_ringing.append(int(now))
        all_lost.append(bool(is_lost))
    return all_ringing, all_lost


def test_one_alarm_is_an_explosion_and_many_are_not() -> None:
    ringing, lost = rings([True, *[False] * RINGS])
    assert ringing[0] == RINGS and ringing[-1] == 0 and not any(lost)

    _, lost = rings([True] * (TOO_MANY // RINGS))
    assert lost == [False] * (TOO_MANY // RINGS - 1) + [True]

    _, lost = rings([True, False] * TOO_MANY)
    assert any(lost)

    _, lost = rings([True, False, False, False] * TOO_MANY)
    assert not any(lost)


def test_after_one_it_is_left_alone_for_a_while() -> None:
    ringing, lost = rings([True] * (REST + TOO_MANY))

    first = lost.index(True)
    assert ringing[first] == -REST
    assert lost[first + 1 : first + 1 + REST] == [False] * REST
    assert sum(lost) == 2


@pytest.fixture(scope="module")
def world() -> World:
    return World.load("doom-hall").reanchoring()


def test_who_is_lost_goes_on_from_a_real_frame_and_nobody_else(world: World) -> None:
    state = world.reset(seed=[1, 2], batch=2)
    rubble = replace(state, latent=torch.randn_like(state.latent))
    lost = torch.tensor([True, False])
    model = world._model
    assert model.keyframes is not None

    latent, picture = anchored(model, rubble.latent, rubble.picture, lost)

    kept = model.keyframes.latents.float() / 32
    assert (latent[0] == kept).all(dim=(1, 2)).any()
    assert torch.equal(latent[1], rubble.latent[1])
    assert torch.equal(picture[1], rubble.picture[1])
    assert not torch.equal(picture[0], rubble.picture[0])


def test_the_next_tick_starts_from_it(world: World) -> None:
    state = world.reset(seed=3)
    assert state.ringing is not None
    nearly = replace(state, ringing=torch.full_like(state.ringing, TOO_MANY - 1))
    prediction = world.predict(nearly, 1)
    assert prediction.output.alarm is not None
    prediction.output.alarm[:] = True

    after = world.advance(prediction)

    plain = world.advance(world.predict(state, 1))
    kept = world._model.keyframes
    assert kept is not None and after.ringing is not None
    assert int(after.ringing[0]) == -REST
    assert (after.latent[0] == kept.latents.float() / 32).all(dim=(1, 2)).any()
    assert not torch.equal(after.context, plain.context), "the trunk has read it"
    frames = [world.step(s, 1, noise_scale=0.0)[1].frame.astype(int) for s in (after, plain)]
    assert np.abs(frames[0] - frames[1]).mean() > 1


def test_without_it_nothing_changes_and_saves_go_both_ways(world: World) -> None:
    plain = World.load("doom-hall")
    here, there = world.reset(seed=5), plain.reset(seed=5)
    for action in (1, 3, 3, 5):
        here, one = world.step(here, action)
        there, other = plain.step(there, action)
        assert np.array_equal(one.frame, other.frame)

    assert there.ringing is None and here.ringing is not None
    assert plain.restore(world.snapshot(here)).ringing is None
    back = world.restore(plain.snapshot(there))
    assert torch.equal(back.ringing, torch.zeros_like(here.ringing))  # type: ignore[arg-type]
    assert np.array_equal(world.step(back, 1)[1].frame, world.step(here, 1)[1].frame)


def test_the_world_says_whether_it_re_anchors_not_the_state(world: World) -> None:
    plain = World.load("doom-hall")

    assert plain.step(world.reset(seed=1), 1)[0].ringing is None
    assert world.step(plain.reset(seed=1), 1)[0].ringing is not None
    with pytest.raises(ValueError, match="must all have or lack ringing"):
        type(world.reset()).stack([plain.reset(), world.reset()])


def test_a_world_without_keyframes_does_not_re_anchor(world: World) -> None:
    assert not world.without_keyframes().reanchoring().reanchors
