"""What a world ships of phi: small, and a function of latents alone."""

import math

import pytest
import torch

from worldsim.tokenizer import TokenizerConfig
from worldsim.tokenizer.student import FeaturesConfig, Student

SMALL = TokenizerConfig(height=32, width=48, channels=8, encoder_width=32)


def test_it_is_within_its_size() -> None:
    student = Student(TokenizerConfig(), size=112)

    assert sum(p.numel() for p in student.parameters()) <= 300_000


def test_features_have_length_one_and_players_do_not_mix() -> None:
    torch.manual_seed(0)
    student = Student(SMALL, size=16)
    before, after = torch.randn(2, 3, 6, 8).unbind()

    features, score = student(after), student.score(before, after)

    torch.testing.assert_close(features.norm(dim=-1), torch.ones(3))
    torch.testing.assert_close(student.score(before[1:2], after[1:2]), score[1:2])
    assert score.shape == (3,) and student.doubts(before, after).shape == (3, 6)


def test_the_bound_is_the_largest_change_of_a_feature() -> None:
    torch.manual_seed(0)
    student = Student(SMALL, size=16)
    before, after = torch.randn(2, 3, 6, 8).unbind()

    bound = student.bound(before, after)

    torch.testing.assert_close(bound, (student(after) - student(before)).abs().amax(dim=-1))
    assert (student.bound(after, after) == 0).all()


@pytest.mark.parametrize("cosine", [0.9, 0.99])
def test_changes_within_epsilon_keep_the_cosine(cosine: float) -> None:
    limits = FeaturesConfig(phi="any", size=400, cosine=cosine)

    # the worst that epsilon allows in every feature: |d|^2 = 400 epsilon^2, cosine 1 - |d|^2 / 2
    assert math.isclose(1 - 400 * limits.epsilon**2 / 2, cosine)
    assert math.isclose(FeaturesConfig(phi="any", size=450, cosine=0.91).epsilon, 0.02)
