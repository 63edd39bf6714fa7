"""Muon in float32 is torch's Muon."""

from typing import Any

import pytest
import torch
from torch.optim import _muon

from worldsim.training.muon import Muon, orthogonal

COEFFICIENTS = (_muon.DEFAULT_A, _muon.DEFAULT_B, _muon.DEFAULT_C)


@pytest.mark.parametrize("shape", [(24, 40), (40, 24), (32, 32)])
def test_updates_are_nearly_orthogonal_and_torchs(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    mine = orthogonal(matrix, COEFFICIENTS, 5, 1e-7)
    theirs = _muon._zeropower_via_newtonschulz(matrix, COEFFICIENTS, 5, 1e-7).float()
    assert mine.dtype == torch.float32
    assert mine.shape == matrix.shape
    assert (mine - theirs).norm() < 0.02 * theirs.norm()
    values = torch.linalg.svdvals(mine)
    assert 0.4 < values.min() <= values.max() < 1.3


@pytest.mark.parametrize("able", [{"avx2": True}, {"avx512_bf16": True}])
def test_it_steps_as_torchs_does(able: dict[str, bool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)
    theirs = _muon._zeropower_via_newtonschulz
    seen: list[Any] = []

    def spy(*given: Any) -> Any:
        seen.append(given)
        return theirs(*given)

    monkeypatch.setattr(_muon, "_zeropower_via_newtonschulz", spy)
    torch.manual_seed(0)
    begin, slope = torch.randn(16, 8), torch.randn(16, 8)
    after = []
    for kind in (Muon, torch.optim.Muon):
        weight = begin.clone().requires_grad_()
        weight.grad = slope
        before = len(seen)
        kind([weight], 0.1).step()
        after.append((weight.detach() - begin, len(seen) - before))
    assert (after[0][0] - after[1][0]).norm() < 0.02 * after[1][0].norm()
    # torch's own products are used where they are fast, and are back in place afterwards
    assert after[0][1] == ("avx512_bf16" in able)
    assert after[1][1] == 1
