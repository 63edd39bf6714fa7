"""Every way in which latent actions are known to fail, on footage whose controls are known.

A failure that is made on purpose shows that the test would see it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from panning import MOTIONS, SAMPLES, SIZE, Pan, Shots, pan, shots
from torch import Tensor
from torch.nn import functional as F

from worldsim import codes as codes_module
from worldsim.codes import infer_codes
from worldsim.dynamics import DynamicsConfig
from worldsim.dynamics.latent_actions import LatentActions, choose, cost_volume
from worldsim.evaluation import tables
from worldsim.tokenizer import Tokenizer, TokenizerConfig, to_pixels
from worldsim.tokenizer.sound import CodecConfig, SoundCodec
from worldsim.training.actions_stage import ActionsStage, Hearing
from worldsim.training.pictures import motion_loss
from worldsim.training.streams import Streams

CODES, UPDATES = 4, 60
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Taught:
    """Latent actions after some updates, and footage that they have not seen."""

    model: LatentActions
    tokenizer: Tokenizer
    held_out: Pan

    def latents(self) -> Tensor:
        return encoded(self.tokenizer, self.held_out.frames)

    def codes(self) -> Ints:
        """What is inferred for every frame but the first."""
        return infer_codes(self.model.encoder, self.held_out.frames, self.latents())

    def loss(self, weights: Tensor) -> float:
        """Of the moved picture, if the decoder gets these `weights` (T - 1, A) of the codes."""
        pixels = to_pixels(torch.from_numpy(self.held_out.frames))
        with torch.inference_mode():
            _, moved = self.model(self.latents()[:-1], pixels[:-1], weights, self.tokenizer.move)
            return float(motion_loss(moved.picture, pixels[1:]))


@torch.inference_mode()
def encoded(tokenizer: Tokenizer, frames: NDArray[np.uint8]) -> Tensor:
    return tokenizer.encode(to_pixels(torch.from_numpy(frames))[None])[0]


def stage_on(
    pans: Sequence[Pan | Shots], *, lanes: int = 16, num_codes: int = CODES, hears: bool = False
) -> ActionsStage:
    torch.manual_seed(0)
    tokenizer = Tokenizer(
        TokenizerConfig(
            height=SIZE[0],
            width=SIZE[1],
            channels=8,
            encoder_width=32,
            encoder_hidden=8,
            decoder_widths=(8, 8, 16),
            decoder_hidden=(8, 8, 8),
        )
    )
    shape = DynamicsConfig(
        rows=3, columns=4, channels=8, num_actions=num_codes, width=32, heads=2, state_size=4,
        registers=1,
    )  # fmt: skip
    frames = [p.frames for p in pans]
    latents = [encoded(tokenizer, f).half().numpy() for f in frames]
    sources: list[Any] = [frames, latents]
    size, hearing = None, None
    if hears:
        sources.append([p.sound for p in pans if isinstance(p, Shots)])
        config = CodecConfig(samples=SAMPLES)
        size = (config.columns, config.mels)
        hearing = Hearing.measured(SoundCodec(config), sources[-1])
    streams = Streams(sources, lanes=lanes, ticks=3, jump=1.0, seed=0)
    return ActionsStage(LatentActions(shape, size), tokenizer, streams, hearing, rate=4e-3)


def teach(*, updates: int = UPDATES, **how: Any) -> Taught:
    stage = stage_on([pan(200, seed, **how) for seed in range(3)])
    for update in range(updates):
        stage.update(update / updates)
    held_out = pan(160, 9, **how)
    return Taught(stage._actions.eval(), stage._tokenizer, held_out)


def teach_shots(*, with_flash: bool, hears: bool) -> tuple[Ints, NDArray[np.bool_]]:
    """Codes of footage with shots that the model has not seen, and whether each is of a shot."""
    pans = [shots(400, seed, with_flash=with_flash) for seed in range(3)]
    stage = stage_on(pans, num_codes=6, hears=hears)
    for update in range(UPDATES):
        stage.update(update / UPDATES)
    held_out = shots(400, 9, with_flash=with_flash)
    latents = encoded(stage._tokenizer, held_out.frames)
    codes = infer_codes(stage._actions.eval().encoder, held_out.frames, latents)
    return codes, held_out.fired[1:]


@pytest.fixture(scope="module")
def taught() -> Taught:
    return teach()


def nmi(controls: Ints, codes: Ints) -> float:
    return float(tables.nmi(tables.count(controls, codes, len(MOTIONS), codes.max() + 1)))


def gain_of_codes_alone(frames: NDArray[np.uint8], codes: Ints) -> float:
    """dB that the best decoder of the code alone, the mean frame of each code, is better than the
    mean frame; both made from one half of the frames and graded on the other."""
    known, other = frames[::2].astype(np.float64), frames[1::2]
    told, asked = codes[::2], codes[1::2]
    mean = known.mean(axis=0)
    means = {c: known[told == c].mean(axis=0) for c in np.unique(told)}
    guess = np.stack([means.get(c, mean) for c in asked])
    before, after = ((other - mean) ** 2).mean(), ((other - guess) ** 2).mean()
    return float(10 * np.log10(before / max(after, 1e-3)))


def test_codes_are_the_controls(taught: Taught) -> None:
    assert nmi(taught.held_out.controls[1:], taught.codes()) > 0.8


def test_a_code_does_not_carry_the_next_frame(taught: Taught) -> None:
    assert gain_of_codes_alone(taught.held_out.frames[1:], taught.codes()) < 1.0


def test_a_code_that_carries_the_next_frame_would_be_seen() -> None:
    frames = np.repeat(pan(16, 0).frames, 4, axis=0)

    assert gain_of_codes_alone(frames, np.arange(64) // 4) > 10.0


def test_what_goes_to_the_decoder_is_one_of_few_codes() -> None:
    weights = choose(torch.randn(64, CODES))

    torch.testing.assert_close(weights.max(dim=-1).values, torch.ones(64))
    torch.testing.assert_close(weights.abs().sum(dim=-1), torch.ones(64))


@pytest.mark.parametrize("how", ["shuffled", "mean"])
def test_the_decoder_listens_to_the_code(taught: Taught, how: str) -> None:
    right = F.one_hot(torch.from_numpy(taught.codes()), CODES).float()
    order = torch.randperm(len(right), generator=torch.Generator().manual_seed(0))
    wrong = right[order] if how == "shuffled" else right.mean(0).expand_as(right)

    assert taught.loss(wrong) > 1.2 * taught.loss(right)


def test_a_decoder_that_does_not_listen_would_be_seen(
    taught: Taught, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = F.one_hot(torch.from_numpy(taught.codes()), CODES).float()
    embedding = taught.model.decoder.action.weight
    monkeypatch.setattr(embedding, "data", torch.zeros_like(embedding))

    assert taught.loss(right.roll(7, dims=0)) == pytest.approx(taught.loss(right))


def test_codes_do_not_collapse(taught: Taught) -> None:
    table = tables.count(np.zeros(159, dtype=np.int64), taught.codes(), 1, CODES)

    assert tables.perplexity(table) > 3.0


def test_a_code_belongs_to_the_frame_that_it_led_to(taught: Taught) -> None:
    codes, controls = taught.codes(), taught.held_out.controls[1:]
    agreement = {
        lag: nmi(controls[2 + lag : len(controls) - 2 + lag], codes[2:-2]) for lag in range(-2, 3)
    }

    assert max(agreement, key=lambda lag: agreement[lag]) == 0
    assert agreement[0] > 1.5 * max(agreement[-1], agreement[1])


def test_codes_are_the_players_not_the_monsters() -> None:
    taught = teach(with_monster=True)
    codes = taught.codes()

    assert nmi(taught.held_out.controls[1:], codes) > 0.6
    assert nmi(taught.held_out.monster[1:], codes) < 0.1


def test_codes_are_the_players_not_the_cameras() -> None:
    taught = teach(shake=1, updates=2 * UPDATES)  # after half of them seeds differ: 0.4 to 0.8
    codes = taught.codes()

    mine = nmi(taught.held_out.controls[1:], codes)
    cameras = float(tables.nmi(tables.count(taught.held_out.jolt[1:], codes, 9, CODES)))
    assert mine > 0.4
    assert cameras < mine / 2


def purest(codes: Ints, fired: NDArray[np.bool_]) -> tuple[float, float]:
    """Of the code that has most shots: the share of its ticks that are shots, and of the shots that
    it has."""
    code = np.bincount(codes[fired]).argmax()
    return float(fired[codes == code].mean()), float((codes[fired] == code).mean())


def test_what_is_seen_a_little_and_heard_a_lot_gets_a_code() -> None:
    purity, share = purest(*teach_shots(with_flash=True, hears=True))
    deaf_purity, _ = purest(*teach_shots(with_flash=True, hears=False))

    assert purity > 0.6
    assert share > 0.5
    assert deaf_purity < 0.5  # one code for the flash and for rest


def test_what_is_heard_and_not_seen_gets_no_code() -> None:
    codes, fired = teach_shots(with_flash=False, hears=True)

    assert float(tables.nmi(tables.count(fired.astype(np.int64), codes, 2, 6))) < 0.25
    assert purest(codes, fired)[0] < 0.5


def test_silence_teaches_nothing() -> None:
    codec = SoundCodec(CodecConfig(samples=SAMPLES))
    sound = np.zeros((8, SAMPLES), dtype=np.int16)

    _, louder = Hearing.measured(codec, [sound]).heard(torch.from_numpy(sound)[None])

    assert not louder.any()


def test_a_code_sees_three_frames_and_no_more(
    taught: Taught, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames, latents = taught.held_out.frames, taught.latents()
    whole = infer_codes(taught.model.encoder, frames, latents)

    alone = [
        infer_codes(taught.model.encoder, frames[t - 1 : t + 2], latents[t - 1 : t + 2])[-1]
        for t in range(1, 40)
    ]
    monkeypatch.setattr(codes_module, "BATCH", 7)
    in_parts = infer_codes(taught.model.encoder, frames, latents)

    assert whole[1:40].tolist() == alone
    assert whole.tolist() == in_parts.tolist()
    assert len(whole) == len(frames) - 1


def test_cost_volume_is_highest_at_the_true_shift() -> None:
    episode = pan(20, 4)
    pixels = to_pixels(torch.from_numpy(episode.frames))
    t = int(np.flatnonzero(episode.controls == 0)[0])

    volume = cost_volume(pixels[t - 1 : t], pixels[t : t + 1]).view(12, 5, 11)

    down, across = divmod(int(volume.mean(0).argmax()), 11)
    assert (2 * (2 - down), 2 * (5 - across)) == MOTIONS[0]


def test_a_copy_of_the_stage_makes_the_same_next_update() -> None:
    pans = [pan(60, 0)]
    stage, copy = stage_on(pans, lanes=2), stage_on(pans, lanes=2)
    stage.update(0.0)
    copy.model.load_state_dict(stage.model.state_dict())
    copy.load_state_dict(stage.state_dict())
    for mine, theirs in zip(stage.optimizers, copy.optimizers, strict=True):
        theirs.load_state_dict(mine.state_dict())
    assert copy.streams.seek(stage.streams.position())

    one, other = stage.update(0.5), copy.update(0.5)

    assert {k: float(v) for k, v in one.items()} == {k: float(v) for k, v in other.items()}
