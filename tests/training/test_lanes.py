"""Long clips in segments: what is carried makes a clip that is cut the same as the whole one."""

import numpy as np
import pytest
import torch
from torch import Tensor

from worldsim.dynamics import Dynamics, DynamicsConfig
from worldsim.dynamics.matching import match
from worldsim.tokenizer import Tokenizer, TokenizerConfig
from worldsim.training.dynamics_stage import DynamicsStage
from worldsim.training.lanes import Lanes
from worldsim.training.streams import Streams
from worldsim.training.tokenizer_stage import TokenizerStage

TOKENIZER = TokenizerConfig(height=32, width=48, channels=8, encoder_width=32)
DYNAMICS = DynamicsConfig(
    rows=2, columns=3, channels=8, num_actions=3, width=20, heads=5, state_size=4
)
LANES, TICKS = 3, 6


def lanes_of(dynamics: Dynamics, latent: Tensor) -> Lanes:
    nobody = torch.zeros(LANES, dtype=torch.bool)
    state = dynamics.initial_state(LANES)
    picture = torch.zeros(LANES, 3, 32, 48)
    motion = match(picture, picture, (2, 3))
    return Lanes(
        state=state, latent=latent, picture=picture, motion=motion, before=picture, free=nobody
    )


def test_a_clip_in_segments_is_remembered_like_a_whole_one() -> None:
    torch.manual_seed(0)
    dynamics = Dynamics(DYNAMICS).double()
    clip = torch.randn(LANES, 4 * TICKS, 6, 8).double()
    actions = torch.randint(3, (LANES, 4 * TICKS))
    silence = torch.zeros(LANES, 4 * TICKS).double()
    lanes = lanes_of(dynamics, clip[:, 0])
    lanes.state = type(lanes.state)(
        tuple(m.double() for m in lanes.state.memory), lanes.state.latent.double()
    )
    whole, last = dynamics.trunk(clip, actions, silence, lanes.state)

    parts = []
    for begin in range(0, 4 * TICKS, TICKS):
        part = slice(begin, begin + TICKS)
        seen, after = dynamics.trunk(clip[:, part], actions[:, part], silence[:, part], lanes.state)
        lanes.keep(after)
        parts.append(seen)

    torch.testing.assert_close(torch.cat(parts, dim=1), whole)
    torch.testing.assert_close(lanes.state.latent, last.latent)


def test_only_the_lanes_that_jumped_forget() -> None:
    torch.manual_seed(0)
    dynamics = Dynamics(DYNAMICS)
    lanes = lanes_of(dynamics, torch.randn(LANES, 6, 8))
    clip, silence = torch.randn(LANES, TICKS, 6, 8), torch.zeros(LANES, TICKS)
    _, after = dynamics.trunk(clip, torch.zeros(LANES, TICKS).long(), silence, lanes.state)
    lanes.keep(after)

    lanes.restart(dynamics.initial_state(LANES), torch.tensor([False, True, False]))

    for kept, before in zip(lanes.state.memory, after.memory, strict=True):
        assert torch.equal(kept[[0, 2]], before[[0, 2]])
        assert (kept[1] == 0).all()
        assert not kept.requires_grad


def test_lanes_come_back_from_their_tensors() -> None:
    lanes = lanes_of(Dynamics(DYNAMICS), torch.randn(LANES, 6, 8))

    again = Lanes.from_state_dict(lanes.state_dict())

    assert again.state_dict().keys() == lanes.state_dict().keys()
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, lanes.state_dict()[name])


def stage(kind: str) -> TokenizerStage | DynamicsStage:
    torch.manual_seed(1)
    dice = np.random.default_rng(0)
    frames = [dice.integers(0, 256, (90, 32, 48, 3)).astype(np.uint8)]
    latents = [dice.normal(size=(90, 6, 8)).astype(np.float16)]
    actions = [dice.integers(0, 3, 90)]
    tokenizer = Tokenizer(TOKENIZER)
    if kind == "tokenizer":
        streams = Streams([frames], lanes=LANES, ticks=TICKS, jump=0.2, seed=0)
        return TokenizerStage(tokenizer, streams)
    streams = Streams([frames, latents, actions], lanes=LANES, ticks=TICKS, jump=0.2, seed=0)
    return DynamicsStage(Dynamics(DYNAMICS), tokenizer, streams)


@pytest.mark.parametrize("kind", ["tokenizer", "dynamics"])
def test_a_stage_gives_and_takes_everything_that_it_carries(kind: str) -> None:
    one, other = stage(kind), stage(kind)
    for progress in (0.5, 0.6, 0.7):
        one.update(progress)
    other.model.load_state_dict(one.model.state_dict())
    other.load_state_dict({k: v.clone() for k, v in one.state_dict().items()})
    assert other.streams.seek(one.streams.position())
    for mine, theirs in zip(one.optimizers, other.optimizers, strict=True):
        theirs.load_state_dict(mine.state_dict())

    torch.manual_seed(2)
    wanted = one.update(0.8)
    torch.manual_seed(2)
    losses = other.update(0.8)

    assert losses.keys() == wanted.keys()
    assert all(torch.equal(losses[name], wanted[name]) for name in wanted)
