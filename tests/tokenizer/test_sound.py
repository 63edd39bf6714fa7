"""The sound's codec: streaming, causal, and no clicks where ticks join."""

import numpy as np
import pytest
import torch

from worldsim.tokenizer.sound import CodecConfig, SoundCodec, mel_filters

CONFIG = CodecConfig(samples=120, columns=3, sample_rate=4200, mels=12, width=24, column_width=16)


def codec(config: CodecConfig = CONFIG) -> SoundCodec:
    torch.manual_seed(0)
    model = SoundCodec(config).requires_grad_(False)
    for parameter in model.encoder.parameters():
        parameter *= 4  # so that different sounds have different digits
    return model


def sound(batch: int = 2, ticks: int = 8) -> torch.Tensor:
    torch.manual_seed(1)
    return 0.3 * torch.randn(batch, ticks, CONFIG.samples)


def noise(batch: int = 2, ticks: int = 8) -> torch.Tensor:
    torch.manual_seed(2)
    return torch.randn(batch, ticks, CONFIG.columns, CONFIG.bins, 2)


def test_features_are_digits_and_their_codes_tell_them_apart() -> None:
    model = codec()
    features = model.encode(model.hear(sound()))
    codes = model.to_codes(features)

    assert features.shape == (2, 8, CONFIG.features)
    steps = (features + 1) / 2 * (CONFIG.levels - 1)
    torch.testing.assert_close(steps, steps.round())
    assert codes.shape == (2, 8, CONFIG.groups)
    assert 0 <= int(codes.min()) <= int(codes.max()) < CONFIG.codes
    changed = features.clone()
    changed[..., -1] = torch.where(changed[..., -1] > 0, -1.0, 1.0)
    assert torch.equal(model.to_codes(changed)[..., :-1], codes[..., :-1])
    assert (model.to_codes(changed)[..., -1] != codes[..., -1]).all()


def test_what_comes_later_changes_neither_features_nor_samples_of_before() -> None:
    model, clip = codec(), sound()
    changed = clip.clone()
    changed[:, 5:] = -2 * changed[:, 5:]

    def through(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = model.encode(model.hear(x))
        said, _ = model(features, model.initial_state(2), noise())
        return features, said

    features, said = through(clip)
    other, other_said = through(changed)
    assert torch.equal(features[:, :5], other[:, :5])
    assert torch.equal(said[:, :5], other_said[:, :5])
    assert not torch.equal(said[:, 5:], other_said[:, 5:])


def test_tick_by_tick_equals_at_once() -> None:
    model = codec()
    features, hiss = model.encode(model.hear(sound())), noise()

    whole, last = model(features, model.initial_state(2), hiss)
    state, parts = model.initial_state(2), []
    for t in range(8):
        part, state = model(features[:, t : t + 1], state, hiss[:, t : t + 1])
        parts.append(part)

    torch.testing.assert_close(torch.cat(parts, dim=1), whole)
    torch.testing.assert_close(state.tail, last.tail)


def test_samples_jump_no_more_where_ticks_join_than_inside() -> None:
    model = codec()
    model.spectrum.weight.normal_(std=0.5)
    model.spectrum.bias[: CONFIG.bins] += 3
    torch.manual_seed(3)
    features = torch.randint(4, (1, 2000, CONFIG.features)) * 2 / 3 - 1

    said, _ = model(features, model.initial_state(1), noise(1, 2000))

    line = said.flatten().numpy()
    jumps = np.square(np.diff(line))
    at_join = np.arange(1, len(line)) % CONFIG.samples == 0
    assert jumps[at_join].mean() < 1.2 * jumps[~at_join].mean()
    assert line.std() > 0.1, "silence has no jumps"


def test_every_band_of_the_ear_hears_something() -> None:
    for samples in (120, 630, 368):
        config = CodecConfig(samples=samples, columns=2, sample_rate=22050)
        filters = mel_filters(config)
        assert filters.shape == (config.bins, config.mels)
        torch.testing.assert_close(filters.sum(dim=0), torch.ones(config.mels))


def test_samples_must_be_a_multiple_of_columns() -> None:
    with pytest.raises(ValueError, match="multiple of columns, got 100 and 3"):
        CodecConfig(samples=100, columns=3)
