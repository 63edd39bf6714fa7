"""Object slots over a field that the test paints: blobs come, move, hide and return."""

import pytest
import torch
from torch import Tensor, nn

from worldsim.dynamics import DynamicsConfig, ObjectsConfig
from worldsim.dynamics.background import background_loss, strangeness
from worldsim.dynamics.objects import BOX, PRESENCE, REMEMBERED, SHOWN, Objects, SlotReader

GRID = DynamicsConfig()
CONFIG = ObjectsConfig()
ROWS, COLUMNS = 24, 32
NOOP, RIGHT = 0, 1


class Painted(nn.Module):
    """Takes the field from the first numbers of each token."""

    def forward(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        cells = latent[..., :16].transpose(1, 2).unflatten(2, (GRID.rows, GRID.columns))
        field = nn.functional.pixel_shuffle(cells, 4)[:, 0]
        return 20 * field - 10, field.flatten(1)[..., None].expand(-1, -1, CONFIG.attributes)


@pytest.fixture
def objects() -> Objects:
    """Slots that follow painted fields, and of which RIGHT moves each by two cells."""
    torch.manual_seed(0)
    model = Objects(CONFIG, GRID).eval().requires_grad_(False)
    model.field = Painted()  # type: ignore[assignment]
    model.scene.weight.zero_()
    model.scene.bias.zero_()
    first, last = model.carrier[0], model.carrier[2]
    for part in (first.weight, first.bias, last.weight):
        part.zero_()  # type: ignore[operator]
    model.action.weight.zero_()
    model.action.weight[RIGHT, 0] = 1.0
    first.weight[0, 4 + CONFIG.hidden] = 20.0  # type: ignore[index]
    last.weight[0, 0] = 0.1  # type: ignore[index]
    return model


def latent(*boxes: tuple[float, float, float, float]) -> Tensor:
    """A frame with blobs: x, y, width, height in cells, x and y of the corner."""
    field = torch.zeros(1, 1, ROWS, COLUMNS)
    for x, y, width, height in boxes:
        across, down = slice(max(0, int(x)), max(0, int(x + width))), slice(int(y), int(y + height))
        field[..., down, across] = 1.0
    cells = nn.functional.pixel_unshuffle(field, 4).flatten(2).transpose(1, 2)
    return torch.cat([cells, torch.zeros(1, GRID.num_tokens, GRID.channels - 16)], dim=-1)


def run(objects: Objects, slots: Tensor, frames: list[Tensor], action: int) -> Tensor:
    before = frames[0]
    for frame in frames:
        slots = objects.step(slots, before, torch.tensor([action]), frame)
        before = frame
    return slots


def seen(slots: Tensor) -> list[int]:
    return (slots[0, :, PRESENCE] > REMEMBERED).nonzero()[:, 0].tolist()


@pytest.mark.parametrize("box", [(5, 6, 2, 2), (10, 8, 4, 6), (3, 4, 9, 15)])
def test_a_blob_becomes_one_slot_of_its_place_and_size(
    objects: Objects, box: tuple[float, float, float, float]
) -> None:
    x, y, width, height = box

    slots = run(objects, objects.initial_state(1), [latent(box)] * 8, NOOP)

    assert len(seen(slots)) == 1
    found = slots[0, seen(slots)[0], BOX] * torch.tensor([COLUMNS, ROWS, COLUMNS, ROWS])
    true = torch.tensor([x + width / 2, y + height / 2, width, height], dtype=torch.float32)
    assert (found[:2] - true[:2]).abs().max() < 0.5
    assert (found[2:] / true[2:]).min() > 0.7 and (found[2:] / true[2:]).max() < 1.4


def test_two_blobs_are_two_slots_and_nothing_is_none(objects: Objects) -> None:
    frame = latent((4, 6, 3, 3), (20, 10, 3, 4))

    assert len(seen(run(objects, objects.initial_state(1), [frame] * 6, NOOP))) == 2
    empty = run(objects, objects.initial_state(1), [latent()] * 6, NOOP)
    assert torch.equal(empty, torch.zeros_like(empty))


def test_a_moving_blob_keeps_its_slot(objects: Objects) -> None:
    slots = run(objects, objects.initial_state(1), [latent((4, 6, 3, 3), (24, 15, 3, 3))] * 4, NOOP)
    names = {round(float(slots[0, k, 0]), 1): k for k in seen(slots)}

    for tick in range(15):
        slots = run(objects, slots, [latent((5 + tick, 6, 3, 3), (23 - tick, 15, 3, 3))], NOOP)

    upper, lower = names[min(names)], names[max(names)]
    assert sorted(seen(slots)) == sorted([upper, lower])
    assert slots[0, upper, 0] > 0.6 > 0.4 > slots[0, lower, 0]


def test_what_leaves_the_view_is_remembered_and_returns_to_its_slot(objects: Objects) -> None:
    slots = run(objects, objects.initial_state(1), [latent((25, 10, 3, 3), (3, 3, 3, 3))] * 4, NOOP)
    mine = max(seen(slots), key=lambda k: float(slots[0, k, 0]))

    for tick in range(1, 9):  # the camera turns left: all goes right by two cells a tick
        slots = run(objects, slots, [latent((25 + 2 * tick, 10, 3, 3))], RIGHT)
    away = slots[0, mine].clone()

    assert away[0] > 1.1, "it goes on moving out there"
    assert away[PRESENCE] == REMEMBERED
    objects.action.weight[RIGHT, 0] = -1.0
    objects.carrier[2].weight[0, 0] = 0.0  # type: ignore[index]
    objects.carrier[2].bias[0] = -2.0  # type: ignore[index]
    for tick in range(7, -1, -1):
        slots = run(objects, slots, [latent((25 + 2 * tick, 10, 3, 3))], RIGHT)
    assert slots[0, mine, PRESENCE] == 1.0
    assert abs(float(slots[0, mine, 0]) - 26.5 / COLUMNS) < 0.02


def test_what_vanishes_in_view_is_soon_forgotten(objects: Objects) -> None:
    slots = run(objects, objects.initial_state(1), [latent((10, 10, 3, 3))] * 4, NOOP)
    mine = seen(slots)[0]

    slots = run(objects, slots, [latent()], NOOP)
    assert 0 < slots[0, mine, PRESENCE] <= REMEMBERED
    slots = run(objects, slots, [latent()] * 10, NOOP)
    assert torch.equal(slots, torch.zeros_like(slots))


def test_what_happens_to_one_slot_is_nothing_to_the_others() -> None:
    torch.manual_seed(1)
    objects = Objects(CONFIG, GRID).eval().requires_grad_(False)
    nn.init.normal_(objects.carrier[2].weight)
    slots = torch.rand(2, CONFIG.slots, CONFIG.size)
    z, action = torch.randn(2, GRID.num_tokens, GRID.channels), torch.tensor([RIGHT, NOOP])
    changed = slots.clone()
    changed[:, 3] = torch.rand(CONFIG.size)

    one, other = objects.carry(slots, z, action), objects.carry(changed, z, action)

    same = [k for k in range(CONFIG.slots) if k != 3]
    assert torch.equal(one[:, same], other[:, same])
    assert not torch.equal(one[:, 3], other[:, 3])
    assert not torch.equal(one, slots), "they move"


def test_players_do_not_see_each_others_objects(objects: Objects) -> None:
    frames = [torch.cat([latent((4, 6, 3, 3)), latent((20, 9, 5, 5))]) for _ in range(4)]

    slots = objects.initial_state(2)
    for frame in frames:
        slots = objects.step(slots, frame, torch.tensor([NOOP, NOOP]), frame)

    alone = run(objects, objects.initial_state(1), [latent((20, 9, 5, 5))] * 4, NOOP)
    torch.testing.assert_close(slots[1:], alone)


def test_masks_part_the_frame(objects: Objects) -> None:
    frame = latent((4, 6, 4, 4), (20, 10, 4, 4))
    slots = run(objects, objects.initial_state(1), [frame] * 5, NOOP)

    masks = objects.masks(slots)[0]

    assert masks.shape == (CONFIG.slots, ROWS, COLUMNS)
    assert masks.sum(dim=0).max() <= 1.0
    one, two = seen(slots)
    left, right = sorted([one, two], key=lambda k: float(slots[0, k, 0]))
    assert masks[left, 7, 5] > 0.6 and masks[left, 11, 21] < 0.1
    assert masks[right, 11, 21] > 0.6


def test_the_reader_says_nothing_at_first_and_then_where_slots_are() -> None:
    torch.manual_seed(0)
    reader = SlotReader(CONFIG, GRID)
    slots = torch.zeros(1, CONFIG.slots, CONFIG.size)
    slots[0, 2, : SHOWN + 1] = torch.tensor([0.2, 0.5, 0.1, 0.1, 1.0, 0.7])

    assert torch.equal(reader(slots), torch.zeros(1, GRID.num_places, GRID.width))
    nn.init.normal_(reader.write.weight)
    said = reader(slots)[0].norm(dim=-1)
    assert int(said.argmax()) % GRID.columns == 1
    assert said[GRID.num_tokens :].max() == 0, "registers are no places"


def test_the_usual_error_is_the_median_and_more_is_strange() -> None:
    torch.manual_seed(0)
    error = torch.randn(64, 3, 1, 1).abs() * 0.2
    usual = torch.full((1, 3, 1, 1), 1.0, requires_grad=True)
    optimizer = torch.optim.Adam([usual], 0.02)
    for _ in range(200):
        optimizer.zero_grad()
        background_loss(torch.zeros_like(error), usual, error).backward()
        optimizer.step()

    torch.testing.assert_close(usual.mean(), error.median(), rtol=0.2, atol=0.02)
    colours = torch.zeros(1, 3, 1, 1)
    assert strangeness(colours, usual.detach(), colours + 0.05).item() == 0
    assert strangeness(colours, usual.detach(), colours + 1.0).item() == 1
