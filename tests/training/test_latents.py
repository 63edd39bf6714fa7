"""Latents are made once per tokenizer and video, and believed only if they fit."""

from pathlib import Path

import numpy as np
import pytest
import torch

from worldsim.errors import DataError
from worldsim.tokenizer import Tokenizer, TokenizerConfig, to_pixels
from worldsim.training import latents
from worldsim.training.footage import Footage
from worldsim.training.latents import encode_footage, weights_hash

CONFIG = TokenizerConfig(height=32, width=48, channels=8, encoder_width=32)


def footage(*names: str) -> Footage:
    dice = np.random.default_rng(0)
    frames = [dice.integers(0, 256, (70, 32, 48, 3)).astype(np.uint8) for _ in names]
    return Footage(
        paths=[Path(name) for name in names],
        names=list(names),
        frames=frames,
        source=[np.arange(70) for _ in names],
        actions=[np.zeros(70, dtype=np.int64) for _ in names],
        fps=12.0,
    )


@pytest.fixture
def tokenizer() -> Tokenizer:
    torch.manual_seed(0)
    return Tokenizer(CONFIG)


def no_encoding(*args: object) -> None:
    raise AssertionError("encoded again")


def test_they_are_what_the_encoder_makes_of_the_frames(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    both = footage("a", "b")

    kept = encode_footage(tokenizer, both, tmp_path)

    with torch.inference_mode():
        wanted = tokenizer.encode(to_pixels(torch.from_numpy(both.frames[1]))[None])[0]
    assert kept[1].shape == (70, 6, 8)
    torch.testing.assert_close(torch.from_numpy(np.array(kept[1])), wanted.half())


def test_the_same_tokenizer_and_videos_are_not_encoded_again(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = encode_footage(tokenizer, footage("a", "b"), tmp_path)
    monkeypatch.setattr(latents, "_encode", no_encoding)

    again = encode_footage(tokenizer, footage("a", "b"), tmp_path)

    assert all((x == y).all() for x, y in zip(first, again, strict=True))
    with pytest.raises(AssertionError, match="encoded again"):
        encode_footage(tokenizer, footage("a", "c"), tmp_path)


def test_another_tokenizer_makes_its_own_and_the_old_ones_go(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    encode_footage(tokenizer, footage("a"), tmp_path)
    before = weights_hash(tokenizer.encoder)
    next(tokenizer.encoder.parameters()).data[0] += 1

    encode_footage(tokenizer, footage("a"), tmp_path)

    assert weights_hash(tokenizer.encoder) != before
    assert [path.name for path in tmp_path.iterdir()] == [weights_hash(tokenizer.encoder)[:24]]


def test_a_decoder_that_learned_changes_no_latents(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode_footage(tokenizer, footage("a"), tmp_path)
    monkeypatch.setattr(latents, "_encode", no_encoding)
    next(tokenizer.decoder.parameters()).data[0] += 1

    encode_footage(tokenizer, footage("a"), tmp_path)


def test_a_damaged_file_is_named(tmp_path: Path, tokenizer: Tokenizer) -> None:
    encode_footage(tokenizer, footage("a"), tmp_path)
    (path,) = tmp_path.glob("*/a.npy")
    path.write_bytes(path.read_bytes()[:-10])

    with pytest.raises(DataError, match=r"a\.npy: damaged"):
        encode_footage(tokenizer, footage("a"), tmp_path)

    np.save(path, np.zeros((70, 6, 9), dtype=np.float16))
    with pytest.raises(DataError, match=r"a\.npy: damaged cache file, shape"):
        encode_footage(tokenizer, footage("a"), tmp_path)
