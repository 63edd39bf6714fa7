"""The stage that finds objects: it learns on footage with a monster, and goes on exactly."""

import numpy as np
import pytest
import torch
from panning import pan

from worldsim.dynamics import DynamicsConfig, ObjectsConfig
from worldsim.dynamics.objects import Objects
from worldsim.training import objects_stage
from worldsim.training.objects_stage import ObjectsStage
from worldsim.training.streams import Streams

GRID = DynamicsConfig(rows=3, columns=4, channels=24, num_actions=4)


def stage(seed: int = 0) -> ObjectsStage:
    torch.manual_seed(seed)
    made = pan(60, seed=3, with_monster=True)
    rng = np.random.default_rng(0)
    # any latent will do: patches of the picture through fixed random numbers
    patches = made.frames.reshape(60, 3, 16, 4, 16, 3).transpose(0, 1, 3, 2, 4, 5)
    latents = (patches.reshape(60, 12, 768) / 255 - 0.5) @ rng.normal(size=(768, 24)) / 9
    sources = [[made.frames], [latents.astype(np.float16)], [made.controls]]
    streams = Streams(sources, lanes=3, ticks=4, jump=0.1, seed=0)
    config = ObjectsConfig(slots=3, attributes=4, hidden=8, width=32)
    return ObjectsStage(Objects(config, GRID), streams)


def test_the_field_and_the_background_learn() -> None:
    one = stage()

    losses = [one.update(0.0) for _ in range(40)]

    for key in ("background", "field"):
        first, last = (float(np.mean([x[key] for x in p])) for p in (losses[:4], losses[-4:]))
        assert last < 0.8 * first
    assert "carried" not in losses[0], "slots follow a field that has learned something"
    later = one.update(objects_stage.FOLLOW_FROM)
    assert {"carried", "painted", "in_view"} <= set(later)
    assert all(torch.isfinite(v) for v in later.values())


def test_a_stage_goes_on_from_what_it_carries_as_if_nothing_had_happened() -> None:
    whole, half = stage(), stage()
    for one in (whole, half):
        torch.manual_seed(4)
        for _ in range(3):
            one.update(0.5)
    rest = stage(seed=1)
    rest.model.load_state_dict(half.model.state_dict())
    for mine, theirs in zip(rest.optimizers, half.optimizers, strict=True):
        mine.load_state_dict(theirs.state_dict())
    rest.load_state_dict(half.state_dict())
    assert rest.streams.seek(half.streams.position())

    torch.manual_seed(5)
    expected = whole.update(0.6)
    torch.manual_seed(5)
    went_on = rest.update(0.6)

    assert expected["loss"] == went_on["loss"]
    assert half.state_dict()["slots"].shape == (3, 3, 19)
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, rest.model.state_dict()[key]), key


@pytest.mark.parametrize("progress", [0.0, 1.0])
def test_an_update_moves_nothing_but_the_objects(progress: float) -> None:
    one = stage()
    before = {k: v.clone() for k, v in one.model.state_dict().items()}

    one.update(progress)

    changed = {k for k, v in one.model.state_dict().items() if not torch.equal(v, before[k])}
    assert any(k.startswith("objects.field") for k in changed)
    assert any(k.startswith("painter") for k in changed) == (progress >= 0.3)
