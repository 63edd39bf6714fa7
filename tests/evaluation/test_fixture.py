"""The measures on a real recording: canaries, the game's own branches, and the command itself."""

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from worldsim.cli import main
from worldsim.errors import DataError, MachineError
from worldsim.evaluation import drift, fidelity
from worldsim.evaluation.block_world import checks, grade
from worldsim.evaluation.footage import Library, Window, load_library
from worldsim.evaluation.plan import Plan
from worldsim.evaluation.predictors import RealFootage
from worldsim.evaluation.run import draw
from worldsim.evaluation.study import build_study
from worldsim.provenance import PARTLY

Frames = npt.NDArray[np.uint8]
SIZE = (96, 128)


def quiet(text: str) -> None:
    """No progress lines in tests."""


@pytest.fixture(scope="module")
def real(root: Path) -> Library:
    return load_library(root / "tests" / "data" / "doom-hall", SIZE, max_frames=2000, log=quiet)


class Spoiled:
    """Real footage, made worse."""

    def __init__(self, name: str) -> None:
        self.name = name

    def rollout(
        self, windows: Sequence[Window], controls: npt.NDArray[np.int64]
    ) -> Iterator[Frames]:
        for frames in RealFootage().rollout(windows, controls):
            if self.name == "frozen":
                yield np.stack([window.seed_frame for window in windows])
            else:
                yield np.stack([spoil(frame, self.name) for frame in frames])


def spoil(frame: Frames, how: str) -> Frames:
    """`tokenized` (a strong JPEG), or that and `noisy`; anything else is the frame as it is."""
    if how not in ("tokenized", "noisy"):
        return frame
    store = io.BytesIO()
    Image.fromarray(frame).save(store, "JPEG", quality=60)
    coarse = np.asarray(Image.open(store))
    if how == "tokenized":
        return coarse
    noise = np.random.default_rng(int(frame.sum()) % 1000).normal(0, 14, frame.shape)
    return np.clip(coarse + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def scores(real: Library) -> dict[str, dict[str, float]]:
    windows = real.windows(context=32, horizon=64, count=6, seed=0)
    moving = real.windows(context=32, horizon=drift.MOTION_FRAMES, count=2, seed=0)
    flow = drift.flow_of_real(moving)
    found = {}
    for name in ("real", "tokenized", "noisy", "frozen"):
        predictor = Spoiled(name)
        row = fidelity.gains(predictor, windows, 8)
        row |= drift.motion_and_sharpness(predictor, moving, flow, 8)
        found[name] = {key: float(str(m.graded()["value"])) for key, m in row.items()}
    return found


@pytest.mark.parametrize("key", ["g4", "g16", "g64"])
def test_gains_rank_real_tokenized_noisy_frozen(
    scores: dict[str, dict[str, float]], key: str
) -> None:
    values = [scores[name][key] for name in ("real", "tokenized", "noisy", "frozen")]

    assert values == sorted(values, reverse=True)
    assert values[2] > values[3] == 0.0


def test_motion_survives_a_tokenizer_but_not_a_freeze(scores: dict[str, dict[str, float]]) -> None:
    assert scores["real"]["motion_ratio"] == pytest.approx(1.0)
    assert scores["tokenized"]["motion_ratio"] == pytest.approx(1.0, abs=0.15)
    assert scores["frozen"]["motion_ratio"] == 0.0


PLAN = Plan(
    context=32,
    max_frames=2000,
    windows=2,
    states=2,
    state_tics=300,
    motion_windows=1,
    survivors=1,
)


def test_the_games_own_branches_obey(real: Library) -> None:
    pytest.importorskip("vizdoom")

    study = build_study(real, PLAN, 8, quiet)

    assert len(study.branches) == 2, study.no_branches
    assert all(len(b.classes()) >= 6 for b in study.branches)
    assert checks(study)["sign_of_real"]["value"] == 1.0


def test_without_the_game_counterfactuals_are_null_with_the_reason(
    real: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*ignored: object) -> None:
        raise MachineError("ViZDoom cannot be imported; install the extra [games]")

    monkeypatch.setattr("worldsim.games.doom.replay", refuse)

    study = build_study(real, PLAN, 8, quiet)

    assert study.branches == []
    assert "[games]" in study.no_branches


def test_pictures_show_real_above_imagined(
    library: Library, make_world: Any, tmp_path: Path
) -> None:
    draw(make_world("tokenized"), library, 16, tmp_path, quiet)

    sheet = Image.open(tmp_path / "strips.png")
    assert sheet.width == 7 * 64 + 6 * 4
    assert "AI-generated" in str(sheet.info["Comment"])
    assert PARTLY in str(sheet.info["XML:com.adobe.xmp"])
    with av.open(str(tmp_path / "rollout.mp4")) as clip:
        assert clip.metadata["description"] == PARTLY and "AI-generated" in clip.metadata["comment"]
        assert sum(1 for _ in clip.decode(video=0)) > 1


def test_a_twin_of_another_size_is_refused(library: Library, plan: Plan, make_world: Any) -> None:
    twin = make_world("real")
    twin.frame_size = (10, 10)

    with pytest.raises(DataError, match="only worlds of one size"):
        grade(make_world("real"), library, replace(plan, windows=1), quiet, twin)


def test_long_footage_is_thinned_and_bad_files_are_named(
    real: Library, root: Path, tmp_path: Path
) -> None:
    video = root / "tests" / "data" / "doom-hall" / "doom-hall-010200.mkv"
    (tmp_path / "a.mkv").symlink_to(video)
    (tmp_path / "torn.mkv").write_bytes(b"")

    library = load_library(tmp_path, SIZE, max_frames=300, log=quiet)

    assert not library.has_controls
    assert library.num_frames == 300 < real.num_frames
    assert any("torn.mkv" in line for line in library.skipped)


def test_a_folder_without_videos_is_exit_code_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["eval", "no-such-world", "--data", str(tmp_path / "nothing")])

    assert code == 3
    assert "no such folder" in capsys.readouterr().err
    with pytest.raises(DataError, match="no usable video"):
        load_library(tmp_path, SIZE, max_frames=100, log=quiet)


def test_an_unknown_block_is_a_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["eval", "doom-hall", "--data", str(tmp_path), "--blocks", "world,smell"])

    assert code == 2
    assert "'smell'" in capsys.readouterr().err


def test_reports_are_plain_json(real: Library) -> None:
    windows = real.windows(context=32, horizon=64, count=2, seed=0)

    row = fidelity.gains(RealFootage(), windows, 8)

    assert json.loads(json.dumps({key: m.graded() for key, m in row.items()}))
