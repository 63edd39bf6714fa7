"""Recordings: the promised mixture, half of it invulnerable, and the same files every time."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from worldsim.cli import main
from worldsim.data.recording import Recording
from worldsim.data.video import read_frames, read_sound
from worldsim.errors import DataError
from worldsim.games.doom import DoomGame
from worldsim.games.policy import Player
from worldsim.games.recorder import plan_modes, record
from worldsim.games.table import CONTROLS, SAMPLES_PER_TIC

FIXTURE = Path(__file__).parent.parent / "data" / "doom-hall" / "doom-hall-010200.mkv"


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    pytest.importorskip("vizdoom", reason="needs the extra [games]")


def test_half_of_the_time_is_long_invulnerable_episodes() -> None:
    plan = plan_modes(147_000)

    assert sum(plan["invulnerable"]) == sum(plan["ordinary"]) == 73_500
    assert min(plan["invulnerable"]) >= 8_000


def test_the_same_arguments_give_the_same_recordings(tmp_path: Path) -> None:
    found = []
    for name in ("a", "b"):
        record("doom-hall", tmp_path / name, minutes=0.3, seed=7)
        paths = sorted((tmp_path / name).glob("*.mkv"))
        content = b"".join(
            read_frames(p).tobytes() + read_sound(p)[0].tobytes() for p in paths
        ) + b"".join(p.with_suffix(".jsonl").read_bytes() for p in paths)
        found.append(([p.name for p in paths], hashlib.sha256(content).hexdigest()))

    assert found[0] == found[1]


def test_a_recording_has_both_modes_and_its_sound_to_the_sample(tmp_path: Path) -> None:
    summary = record("doom-hall", tmp_path, minutes=0.3, seed=0)

    recordings = [Recording.open(path) for path in sorted(tmp_path.glob("*.mkv"))]
    assert {r.header.mode for r in recordings} == {"invulnerable", "ordinary"}
    assert [r.header.seed for r in recordings] == list(range(len(recordings)))
    assert sum(len(r.controls) for r in recordings) == summary.frames
    for recording in recordings:
        sound, _ = read_sound(recording.path)
        assert len(sound) == SAMPLES_PER_TIC * len(recording.controls)
        assert np.abs(sound).max() > 0.01


@pytest.mark.slow
def test_every_control_has_its_share() -> None:
    counts = np.zeros(len(CONTROLS))
    for seed in range(8):
        with DoomGame("doom-hall", "invulnerable") as running:
            scene = running.start(seed)
            player = Player("mixture", seed, running.walls(), scene)
            for _ in range(4_000):
                counts[player.control] += 1
                following = running.tic(player.control)
                assert following is not None
                player.see(following)
    shares = dict(zip(CONTROLS, counts / counts.sum(), strict=True))

    turns = sum(shares[name] for name in CONTROLS if "left" in name or "right" in name)
    assert min(shares.values()) >= 0.05
    assert turns >= 0.3


def test_existing_recordings_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "doom-hall-000000.mkv").write_bytes(b"mine")

    with pytest.raises(DataError, match="exists already"):
        record("doom-hall", tmp_path, minutes=0.1, seed=0)

    assert (tmp_path / "doom-hall-000000.mkv").read_bytes() == b"mine"


def test_an_interrupted_episode_leaves_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(player: Player, scene: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Player, "see", interrupt)

    with pytest.raises(KeyboardInterrupt):
        record("doom-hall", tmp_path, minutes=0.1, seed=0)

    assert list(tmp_path.iterdir()) == []


def test_a_file_in_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "out").touch()

    with pytest.raises(DataError, match="not a folder to write into"):
        record("doom-hall", tmp_path / "out", minutes=0.1, seed=0)


def test_the_command_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["record", "doom-hall", "--out", str(tmp_path), "--minutes", "0.1"])

    assert code == 0
    assert "frames/s" in capsys.readouterr().err
    assert list(tmp_path.glob("doom-hall-*.mkv"))


@pytest.mark.parametrize(
    "flags", [["doom-cave"], ["doom-hall", "--minutes", "0"], ["doom-hall", "--seed", "-1"]]
)
def test_wrong_usage_exits_with_2(flags: list[str]) -> None:
    assert main(["record", *flags]) == 2
