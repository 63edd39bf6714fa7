"""Codes get the names of controls: by motion, by hand, or by a few labels."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from worldsim.bindings import bind_by_labels, bind_by_motion, bound
from worldsim.cli import main
from worldsim.dynamics import DynamicsConfig
from worldsim.folder import WorldConfig, read_config, write_world
from worldsim.model import WorldModel
from worldsim.motion import Motion, mean_motion, motion_of_codes
from worldsim.tokenizer import TokenizerConfig
from worldsim.training.few import chosen_for_labels
from worldsim.world import World

CONFIG = WorldConfig(
    name="tiny",
    fps=20.0,
    actions=[f"code_{i}" for i in range(4)],
    bindings={f"code_{i}": i for i in range(4)},
    learned_actions=True,
    tokenizer=TokenizerConfig(
        height=32,
        width=48,
        channels=8,
        encoder_width=32,
        encoder_hidden=8,
        decoder_widths=(8, 8, 16),
        decoder_hidden=(8, 8, 8),
    ),
    dynamics=DynamicsConfig(
        rows=2, columns=3, channels=8, num_actions=4, width=20, heads=5, state_size=4
    ),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A world that has learned nothing, with four codes."""
    torch.manual_seed(0)
    world = tmp_path / "tiny"
    write_world(world, CONFIG, WorldModel(CONFIG))
    noise = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    Image.fromarray(noise).save(world / "start.png")
    return world


def motion(right: float = 0.0, down: float = 0.0, nearer: float = 0.0) -> Motion:
    return Motion(right=right, down=down, nearer=nearer)


def picture() -> np.ndarray:
    rng = np.random.default_rng(3)
    return np.kron(rng.integers(0, 256, (16, 22, 3)), np.ones((5, 5, 1))).astype(np.uint8)


def test_motion_of_a_picture_that_pans_and_of_one_that_comes_nearer() -> None:
    wall = picture()
    view = wall[8:56, 16:80]
    wide = np.asarray(Image.fromarray(view).resize((72, 54), Image.Resampling.BICUBIC))

    panned = mean_motion(view[None], wall[None, 8:56, 13:77])
    near = mean_motion(view[None], wide[None, 3:51, 4:68])
    still = mean_motion(view[None], view[None])

    assert panned.right == pytest.approx(3.0, abs=0.3) and abs(panned.down) < 0.3
    assert near.nearer > 0.5 and abs(near.right) < 0.5
    assert still.size == 0


def test_motion_is_measured_per_code_and_is_none_for_a_code_that_never_comes() -> None:
    wall = picture()
    frames = np.stack([wall[8:56, 40 - x : 104 - x] for x in (0, 3, 6, 6, 6)])

    right, rest, never = motion_of_codes([frames], [np.array([-1, 0, 0, 1, 1])], 3)

    assert right.right == pytest.approx(3.0, abs=0.3)
    assert rest.size == never.size == 0


def test_the_code_that_moves_the_picture_to_the_right_turns_left() -> None:
    motions = [motion(), motion(nearer=1.0), motion(right=-3.0), motion(right=4.0, nearer=0.5)]

    bindings = bind_by_motion(motions)

    assert bindings == {"turn_left": 3, "turn_right": 2, "forward": 1, "noop": 0}


def test_motion_that_is_not_clear_names_nothing() -> None:
    assert bind_by_motion([motion(right=0.1), motion(right=-0.1), motion()]) == {"noop": 2}


def test_what_nobody_named_keeps_its_number() -> None:
    config = bound(CONFIG, {"noop": 2, "attack": 2, "turn_left": 0})

    assert config.actions == ["turn_left", "code_1", "noop", "code_3"]
    assert config.bindings == {"noop": 2, "attack": 2, "turn_left": 0, "code_1": 1, "code_3": 3}
    assert bound(config, {**config.bindings, "left": 1}).actions[1] == "left"
    with pytest.raises(ValueError, match="left=4: the code must be < 4"):
        bound(CONFIG, {"left": 4})


NAMES = ["noop", "forward", "attack"]
STILL, WALK = Motion(right=0.0, down=0.0, nearer=0.0), Motion(right=0.0, down=0.0, nearer=1.0)


def test_what_is_done_rarely_is_bound_to_what_it_does() -> None:
    """Attack is held: a shot in one tick of five, waiting, as in noop, in the others."""
    share, use = np.array([[0.6, 0.1, 0.1], [0.1, 0.8, 0.1], [0.3, 0.1, 0.8]]), [0.7, 0.25, 0.05]

    found = bind_by_labels(share, np.array(use), [STILL, WALK, STILL], [STILL, WALK, STILL], NAMES)

    assert found == {"noop": 0, "forward": 1, "attack": 2}


def test_what_labels_leave_open_motion_decides() -> None:
    share, use = np.array([[0.5, 0.5], [0.5, 0.5]]), np.array([0.5, 0.5])

    assert bind_by_labels(share, use, [STILL, WALK], [WALK, STILL], NAMES[:2]) == {
        "noop": 1,
        "forward": 0,
    }


def test_where_no_code_is_left_it_is_the_one_that_is_seen_most() -> None:
    share, use = np.array([[0.5, 0.1], [0.4, 0.1], [0.1, 0.8]]), np.array([0.9, 0.1])

    found = bind_by_labels(share, use, [STILL] * 3, [STILL] * 2, NAMES)

    assert found == {"noop": 0, "forward": 0, "attack": 1}


def test_what_does_not_occur_is_not_bound_and_gets_nothing() -> None:
    share, use = np.full((3, 3), 1 / 3), np.array([0.5, 0.5, 0.0])

    found = bind_by_labels(share, use, [STILL, None, WALK], [WALK, STILL, None], NAMES)

    assert found == {"noop": 1, "attack": 0}


def test_half_of_the_labels_are_of_all_codes_alike() -> None:
    codes = np.array([0, 0, 0, 0, 0, 0, 1, 2, 2])

    assert chosen_for_labels(codes, 6).tolist() == [0, 1, 2, 6, 7, 8]
    assert sorted(chosen_for_labels(codes, 99)) == list(range(9))
    assert chosen_for_labels(codes, 1).tolist() == [0]


def test_the_atlas_shows_and_measures_every_code(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, file = tmp_path / "atlas", tmp_path / "report.json"

    code = main(
        ["actions", str(folder), "--out", str(out), "--scenes", "2", "--frames", "3",
         "--bind", "left=3", "--bind", "jump=0", "--json", str(file)]
    )  # fmt: skip

    report = json.loads(capsys.readouterr().out)
    assert code == 0 and report == json.loads(file.read_text())
    assert [entry["name"] for entry in report["codes"]] == ["jump", "code_1", "code_2", "left"]
    assert set(report["codes"][0]["motion"]) == {"right", "down", "nearer"}
    assert set(report["codes"][0]["motion"]["right"]) >= {"value", "lo", "hi", "n"}
    assert (out / "atlas.mp4").stat().st_size > 0
    with Image.open(out / "atlas.png") as drawn:
        assert drawn.width == 2 * (48 + 4)
    assert World.load(folder).bindings["left"] == 3
    assert "jump" in (folder / "README.md").read_text()


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--bind", "left"], "--bind must look like left=3, got 'left'"),
        (["--bind", "left=9"], "--bind left=9: the code must be < 4"),
        (["--scenes", "0"], "--scenes must be >= 1, got 0"),
    ],
)
def test_a_wrong_flag_is_exit_code_2_and_changes_nothing(
    folder: Path, flags: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["actions", str(folder), *flags]) == 2
    assert sentence in capsys.readouterr().err
    assert read_config(folder) == CONFIG


def test_labels_do_not_fit_a_world_without_codes(
    folder: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = replace(CONFIG, learned_actions=False)
    write_world(folder, config, WorldModel(config))

    recordings = root / "tests" / "data" / "doom-hall"
    assert main(["actions", str(folder), "--fit", str(recordings)]) == 3
    assert "its actions are labelled; there is no code to fit" in capsys.readouterr().err
    assert main(["actions", str(folder), "--fit", "nowhere"]) == 3
