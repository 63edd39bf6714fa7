"""What a player has seen is found again by where the player is, and by what is still in view."""

from dataclasses import replace

import torch
from torch import Tensor

from worldsim.dynamics.kept import (
    APART,
    KEPT,
    MENDED,
    NEAR,
    OLD,
    Kept,
    find,
    keep,
    mix,
    nothing_kept,
    pose_change,
    share_taken,
)

TOKENS, CHANNELS = 6, 8


def frame(seed: int, batch: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, TOKENS, CHANNELS, generator=generator).clamp(-3, 3)


def at(kept: Kept, right: float, way: float = 0.0) -> Kept:
    return replace(kept, pose=torch.tensor([[right, 0.0, 0.0, way]]))


def path(count: int, *, step: float = 0.5) -> Kept:
    """A turn, a new frame every `step`, as many ticks."""
    kept = nothing_kept(frame(0))
    for tick in range(count):
        kept = keep(at(kept, tick * step, tick * step), frame(tick), torch.tensor([tick]))
    return kept


def test_a_pose_is_what_the_picture_was_moved_by_in_tokens() -> None:
    pan = torch.zeros(1, 2, 6, 8)
    pan[:, 0], pan[:, 1] = 8.0, -4.0
    y, x = torch.meshgrid(torch.linspace(-1, 1, 6), torch.linspace(-1, 1, 8), indexing="ij")
    nearer = torch.stack([x, y])[None] * 4

    moved, zoomed = pose_change(pan, 16), pose_change(nearer, 16)

    torch.testing.assert_close(moved[0, :3], torch.tensor([0.5, -0.25, 0.0]))
    torch.testing.assert_close(moved[0, 3], torch.tensor([0.5, 0.25]).norm())
    assert zoomed[0, 2] > 0.05
    torch.testing.assert_close(zoomed[0, :2], torch.zeros(2))


def test_who_turns_back_finds_the_frame_that_was_there() -> None:
    kept = at(path(40), 10 * 0.5 + 0.1, way=20.0)
    shown = frame(10) + 0.1 * frame(99)

    found, is_alike, pose = find(kept, shown, torch.ones(1, TOKENS), torch.tensor([40]))

    assert is_alike.tolist() == [True]
    torch.testing.assert_close(found, frame(10), atol=1 / 32, rtol=0)
    assert 5.0 < pose[0, 0] < kept.pose[0, 0]  # nearer to where it was seen from


def test_the_view_says_which_of_the_near_ones_it_is() -> None:
    kept = at(path(40, step=0.26), 10.5 * 0.26)
    for number in (10, 11):
        found, _, _ = find(kept, frame(number), torch.ones(1, TOKENS), torch.tensor([40]))
        torch.testing.assert_close(found, frame(number), atol=1 / 32, rtol=0)


def test_what_is_new_in_the_view_does_not_count() -> None:
    kept, sure = at(path(40), 5.0), torch.ones(1, TOKENS)
    shown = frame(10)
    shown[:, :3] = 3.0  # nobody knows what is there

    blind = find(kept, shown, sure, torch.tensor([40]))[1]
    sure[:, :3] = 0.0
    seeing = find(kept, shown, sure, torch.tensor([40]))[1]

    assert (blind.item(), seeing.item()) == (False, True)


def test_nothing_is_found_elsewhere_or_of_another_place_or_of_a_moment_ago() -> None:
    kept, sure, now = path(40), torch.ones(1, TOKENS), torch.tensor([40])
    elsewhere = at(kept, -1.0 - 2 * NEAR)
    other = at(kept, 5.0)
    recent = at(kept, (40 - OLD + 2) * 0.5)

    assert not find(elsewhere, frame(0), sure, now)[1]
    assert not find(other, frame(77), sure, now)[1]
    assert not find(recent, frame(40 - OLD + 2), sure, now)[1]
    assert find(recent, frame(40 - OLD + 2), sure, now + OLD)[1]
    empty = nothing_kept(frame(0))
    found, is_alike, pose = find(empty, frame(0), sure, now)
    assert not is_alike
    assert torch.equal(pose, empty.pose)
    assert found.isfinite().all()


def test_nothing_is_found_where_the_last_frames_are_nearer() -> None:
    kept = path(40, step=0.26)
    slow = at(kept, 10 * 0.26 + 0.1)
    resting = keep(at(kept, 10 * 0.26 + 0.05 + APART), frame(10), torch.tensor([40]))
    resting = at(resting, 10 * 0.26 + 0.05 + 0.9 * APART)

    assert find(slow, frame(10), torch.ones(1, TOKENS), torch.tensor([41]))[1]
    assert not find(resting, frame(10), torch.ones(1, TOKENS), torch.tensor([41]))[1]


def test_dead_reckoning_is_believed_less_the_longer_the_way() -> None:
    kept, sure, now = path(40), torch.ones(1, TOKENS), torch.tensor([80])

    near, far = (at(kept, 5.0 - 1.5 * NEAR, way=way) for way in (5.0, 45.0))

    assert not find(near, frame(10), sure, now)[1]
    assert find(far, frame(10), sure, now)[1]


def test_players_do_not_share_what_they_have_seen() -> None:
    kept = nothing_kept(frame(0, 2))
    kept = keep(kept, frame(1, 2), torch.tensor([0, 0]))
    shown = torch.cat([frame(1, 2)[:1], frame(1, 2)[:1]])

    _, is_alike, _ = find(kept, shown, torch.ones(2, TOKENS), torch.tensor([OLD, OLD]))

    assert is_alike.tolist() == [True, False]


def test_a_frame_takes_the_place_of_one_from_the_same_pose_else_of_the_oldest() -> None:
    kept = path(3)
    again = keep(at(kept, 0.5 + 0.5 * APART), frame(50), torch.tensor([9]))
    full = path(KEPT + 2)

    assert torch.isfinite(again.kept_pose[0, :, 0]).sum() == 3
    assert sorted(again.kept_tick[0][torch.isfinite(again.kept_pose[0, :, 0])]) == [0, 2, 9]
    assert sorted(full.kept_tick[0].tolist()) == list(range(2, KEPT + 2))
    assert torch.equal(kept.kept_tick, path(3).kept_tick)  # a value: the old one is as it was


def test_what_is_new_is_taken_and_the_rest_is_mended_as_the_picture_moves() -> None:
    sure = torch.tensor([[1.0, 0.0, 0.5]]).repeat(4, 1)
    step = torch.tensor([0.0, APART / 2, 9.0, 9.0])

    share = share_taken(sure, step, torch.tensor([True, True, True, False]))

    torch.testing.assert_close(share[:, 1], torch.tensor([1.0, 1.0, 1.0, 0.0]))
    torch.testing.assert_close(share[:, 0], torch.tensor([0.0, MENDED / 2, MENDED, 0.0]))
    assert (share[:3, 2] >= 0.5).all()


def test_a_mean_mixes_and_a_sample_takes_whole_tokens() -> None:
    players = 500
    latent, found = frame(1).repeat(players, 1, 1), frame(2).repeat(players, 1, 1)
    share = torch.tensor([[0.1, 1.0, 0.1, 0.1, 1.0, 0.0]]).repeat(players, 1)
    noise = torch.randn(players, TOKENS, CHANNELS, generator=torch.Generator().manual_seed(0))

    mean, sample = mix(latent, found, share, None), mix(latent, found, share, noise)

    torch.testing.assert_close(mean[:, 0], torch.lerp(latent, found, 0.1)[:, 0])
    is_found = (sample == found).all(dim=-1)
    assert (is_found | (sample == latent).all(dim=-1)).all()
    assert is_found[:, [1, 4]].all()
    assert not is_found[:, 5].any()
    assert abs(is_found[:, [0, 2, 3]].float().mean() - 0.1) < 0.02
