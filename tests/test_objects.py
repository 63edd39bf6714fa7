"""Objects in a world: old worlds have none, new ones show, keep and edit them."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from worldsim.dynamics import ObjectsConfig
from worldsim.dynamics.objects import BOX, PRESENCE
from worldsim.folder import find_world, read_config, read_weights, write_world
from worldsim.model import WorldModel
from worldsim.objects import inside
from worldsim.state import WorldState
from worldsim.world import World

BOX_THERE = (0.3, 0.5, 0.15, 0.3)


def written(path: Path, objects: ObjectsConfig | None) -> World:
    """The shipped world without its slots, or with slots that have learned nothing."""
    folder = find_world("doom-hall")
    config = replace(read_config(folder), objects=None)
    old = WorldModel(config)
    read_weights(folder, old)
    config = replace(config, objects=objects)
    torch.manual_seed(0)
    new = WorldModel(config)
    new.load_state_dict(old.state_dict(), strict=False)
    write_world(path, config, new)
    for start in folder.glob("start.*"):
        shutil.copy(start, path)
    return World.load(path)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> World:
    return written(tmp_path_factory.mktemp("plain"), None)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return written(tmp_path_factory.mktemp("world"), ObjectsConfig())


@pytest.fixture
def state(world: World) -> WorldState:
    """One object, wherever the picture has one or not."""
    state = world.reset(seed=3)
    assert state.slots is not None
    slots = torch.zeros_like(state.slots)
    slots[0, 2, :5] = torch.tensor([*BOX_THERE, 1.0])
    return replace(state, slots=slots)


def test_a_world_without_objects_is_what_it_was(plain: World) -> None:
    state = plain.reset()
    after, out = plain.step(state, 0)

    assert (state.slots, after.slots, out.objects) == (None, None, None)
    assert "slots" not in after.tensors()
    with pytest.raises(ValueError, match="has no objects"):
        plain.edit(state, 0, remove=True)


def test_objects_can_be_forgotten_and_nothing_else(world: World, state: WorldState) -> None:
    forgotten = state.without_slots()

    assert forgotten.slots is not None and not forgotten.slots.any()
    others = {k: v for k, v in state.tensors().items() if k != "slots"}
    assert all(torch.equal(forgotten.tensors()[k], v) for k, v in others.items())
    assert world.step(forgotten, 0)[1].objects is not None


def test_slots_that_nobody_trained_the_head_on_change_no_picture(
    plain: World, world: World
) -> None:
    here, there = plain.reset(seed=1), world.reset(seed=1)
    for action in (3, 3, 1, 5):
        here, one = plain.step(here, action)
        there, other = world.step(there, action)

        assert np.array_equal(one.frame, other.frame)
    assert other.objects is not None
    assert other.objects.shape == (1, 8, 13) and other.objects.dtype == np.float32


def test_slots_are_in_the_snapshot(world: World, state: WorldState) -> None:
    again = world.restore(world.snapshot(state))

    one, other = world.step(state, 3), world.step(again, 3)
    assert one[0].slots is not None and other[0].slots is not None
    assert torch.equal(one[0].slots, other[0].slots)
    assert np.array_equal(one[1].frame, other[1].frame)


@pytest.mark.parametrize("edit", [{"remove": True}, {"move": (0.3, 0.0)}, {"move": (0.0, -0.2)}])
def test_an_edit_changes_the_place_of_its_object_and_little_else(
    world: World, state: WorldState, edit: dict[str, object]
) -> None:
    edited = world.edit(state, 2, **edit)  # type: ignore[arg-type]
    assert state.slots is not None and edited.slots is not None
    places = [state.slots[:, 2, BOX]] + ([edited.slots[:, 2, BOX]] if "move" in edit else [])
    grown = [box + box.new_tensor([0, 0, 0.06, 0.06]) for box in places]
    mine = torch.stack([inside(box, state.picture)[0, 0] for box in grown]).any(dim=0).numpy()

    at_once = (edited.picture - state.picture).abs().mean(dim=1)[0].numpy()
    _, plain = world.step(state, 0)
    _, after = world.step(edited, 0)
    later = np.abs(after.frame[0].astype(float) - plain.frame[0]).mean(axis=-1)

    assert at_once[mine].mean() > 0.01 and at_once[~mine].max() == 0
    assert later[mine].mean() > 1.0
    assert later[~mine].mean() <= 0.2 * later[mine].mean()


def test_an_edit_leaves_the_other_slots_and_the_old_state_alone(
    world: World, state: WorldState
) -> None:
    assert state.slots is not None
    slots = state.slots.clone()
    slots[0, 5, :5] = torch.tensor([0.8, 0.5, 0.1, 0.1, 1.0])
    state = replace(state, slots=slots)
    before = {k: v.clone() for k, v in state.tensors().items()}

    moved = world.edit(state, 2, move=(0.1, 0.05))
    gone = world.edit(state, 2, remove=True)

    assert moved.slots is not None and gone.slots is not None
    assert torch.equal(moved.slots[:, 5], slots[:, 5])
    assert torch.equal(gone.slots[:, 5], slots[:, 5])
    torch.testing.assert_close(moved.slots[0, 2, :2], torch.tensor([0.4, 0.55]))
    assert gone.slots[0, 2].abs().max() == 0
    assert all(torch.equal(before[k], v) for k, v in state.tensors().items())


def test_what_is_frozen_stays_where_it_is(world: World, state: WorldState) -> None:
    frozen = world.edit(state, 2, freeze=True)
    for _ in range(4):
        frozen, _ = world.step(frozen, 0)

    assert frozen.slots is not None
    torch.testing.assert_close(frozen.slots[0, 2, BOX], torch.tensor(BOX_THERE))
    assert frozen.slots[0, 2, PRESENCE] == 1.0
    middle = (slice(None), slice(None), slice(44, 52), slice(36, 41))
    torch.testing.assert_close(frozen.picture[middle], state.picture[middle], atol=0.05, rtol=0)


@pytest.mark.parametrize(
    ("slot", "edit", "says"),
    [
        (0, {"remove": True}, "slot 0 is empty"),
        (9, {"remove": True}, "slot must be 0..7, got 9"),
        (2, {}, "edit takes one of"),
        (2, {"remove": True, "freeze": True}, "edit takes one of"),
    ],
)
def test_what_cannot_be_edited_says_why(
    world: World, state: WorldState, slot: int, edit: dict[str, bool], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        world.edit(state, slot, **edit)
