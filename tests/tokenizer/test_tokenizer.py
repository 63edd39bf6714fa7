"""The tokenizer: streaming, causal to the bit, and no leak between players."""

import numpy as np
import pytest
import torch

from worldsim.tokenizer import Tokenizer, TokenizerConfig, to_frames, to_pixels
from worldsim.tokenizer.blocks import warp

CONFIG = TokenizerConfig(height=32, width=48, channels=8)


def model() -> Tokenizer:
    torch.manual_seed(0)
    tokenizer = Tokenizer(CONFIG)
    for parameter in tokenizer.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return tokenizer.requires_grad_(False)


def pixels(batch: int = 2, ticks: int = 6) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.rand(batch, ticks, 3, CONFIG.height, CONFIG.width) * 2 - 1


def test_one_latent_frame_per_video_frame_each_token_of_unit_length() -> None:
    latents = model().encode(pixels())

    assert latents.shape == (2, 6, CONFIG.num_tokens, CONFIG.channels)
    torch.testing.assert_close(latents.square().mean(-1), torch.ones(2, 6, CONFIG.num_tokens))


def test_decoding_in_two_parts_with_the_picture_carried_equals_decoding_at_once() -> None:
    tokenizer = model()
    latents = tokenizer.encode(pixels())

    whole, _ = tokenizer.decode(latents, tokenizer.decoder.cleared(2))
    first, picture = tokenizer.decode(latents[:, :2], tokenizer.decoder.cleared(2))
    second, _ = tokenizer.decode(latents[:, 2:], picture)

    assert torch.equal(torch.cat([first, second], dim=1), whole)


def test_sharpening_adds_grain_to_what_is_painted_alone() -> None:
    tokenizer = model()
    latents, cleared = tokenizer.encode(pixels()), tokenizer.decoder.cleared(2)
    soft, _ = tokenizer.decode(latents, cleared)

    tokenizer.decoder.sharpening.fill_(0.5)
    crisp, _ = tokenizer.decode(latents, cleared)
    code = tokenizer.encode(pixels())[:, 0]
    kept = tokenizer.decoder(code, code, pixels()[:, 0])

    def grain(frames: torch.Tensor) -> float:
        return float(frames.diff(dim=-1).square().mean())

    assert grain(crisp) > 1.05 * grain(soft)
    torch.testing.assert_close(kept, pixels()[:, 0])  # nobody wants it to change


def test_later_frames_never_change_earlier_latents_or_pictures() -> None:
    tokenizer, clip = model(), pixels()
    changed = clip.clone()
    changed[:, 3:] = -changed[:, 3:]

    def through(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        latents = tokenizer.encode(x)
        shown, _ = tokenizer.decode(latents, tokenizer.decoder.cleared(2))
        return latents, shown

    latents, shown = through(clip)
    other_latents, other_shown = through(changed)

    assert torch.equal(latents[:, :3], other_latents[:, :3])
    assert torch.equal(shown[:, :3], other_shown[:, :3])
    assert not torch.equal(shown[:, 3:], other_shown[:, 3:])


def test_the_picture_of_one_player_does_not_reach_another() -> None:
    tokenizer, clip = model(), pixels()
    latents = tokenizer.encode(clip)
    shown, _ = tokenizer.decode(latents[:, 1:], clip[:, 0])

    start = torch.stack([-clip[0, 0], clip[1, 0]])
    other, _ = tokenizer.decode(latents[:, 1:], start)

    assert torch.equal(shown[1], other[1])
    assert not torch.equal(shown[0], other[0])


def test_a_picture_that_nobody_wants_to_change_stays_as_it_is() -> None:
    tokenizer, picture = model(), pixels()[:, 0]
    code = tokenizer.encode(picture[:, None])[:, 0]

    torch.testing.assert_close(tokenizer.step(code, picture), picture, atol=1e-4, rtol=0)
    assert (tokenizer.step(-code, picture) - picture).abs().max() > 0.1


def test_a_moved_picture_comes_with_its_latent() -> None:
    tokenizer, picture = model(), pixels()[:, 0]
    flow = torch.ones(2, 2, *picture.shape[-2:])

    moved, code = tokenizer.move(picture, flow)

    torch.testing.assert_close(moved[..., :-1, :-1], picture[..., 1:, 1:], atol=1e-4, rtol=0)
    torch.testing.assert_close(code, tokenizer.encode(moved[:, None])[:, 0])


def test_a_warp_by_whole_pixels_is_a_shift() -> None:
    picture = pixels()[:, 0]
    flow = torch.zeros(2, 2, CONFIG.height, CONFIG.width)
    flow[:, 0] = 3

    moved = warp(picture, flow)

    torch.testing.assert_close(moved[..., :-3], picture[..., 3:], atol=1e-4, rtol=0)


def test_frames_survive_the_way_to_pixels_and_back() -> None:
    frames = torch.from_numpy(np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3))

    assert torch.equal(to_frames(to_pixels(frames)), frames)


def test_a_size_that_is_no_whole_number_of_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 16, got 130x96"):
        TokenizerConfig(width=130)
