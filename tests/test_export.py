"""A world leaves as a folder that needs nothing else, or not at all."""

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest

from worldsim import cli, sharing
from worldsim.errors import DataError, MachineError
from worldsim.folder import HUB_FILES, read_config
from worldsim.sharing import export, publish
from worldsim.world import World


def test_it_plays_as_the_one_it_was_made_from_and_loads_its_saves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = cli.main(["export", "doom-hall", "--out", str(tmp_path / "mine"), "--name", "mine"])

    told = json.loads(capsys.readouterr().out)
    here, there = World.load(tmp_path / "mine"), World.load("doom-hall")
    assert code == 0
    assert (told["name"], told["hash"]) == ("mine", there.hash) == (here.name, here.hash)
    assert told["bytes"] == sum(p.stat().st_size for p in (tmp_path / "mine").iterdir())
    state = here.restore(there.snapshot(there.reset(seed=4)))
    frames = [w.step(s, 3)[1].frame for w, s in ((here, state), (there, there.reset(seed=4)))]
    assert np.array_equal(*frames)
    assert "# mine" in (tmp_path / "mine" / "README.md").read_text()


def test_a_world_may_leave_without_the_frames_of_its_footage(tmp_path: Path) -> None:
    told = export("doom-hall", tmp_path / "bare", keyframes=False)

    bare = World.load(tmp_path / "bare")
    assert not bare.has_keyframes and read_config(tmp_path / "bare").keyframes == 0
    assert told["hash"] == bare.hash != World.load("doom-hall").hash
    assert "Not measured yet" in (tmp_path / "bare" / "README.md").read_text()
    whole = World.load("doom-hall").without_keyframes()
    expected = whole.step(whole.reset(seed=1), 2)[1].frame
    assert np.array_equal(bare.step(bare.reset(seed=1), 2)[1].frame, expected)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")

    with pytest.raises(DataError, match=r"mine: is not empty; give another folder with --out"):
        export("doom-hall", tmp_path / "mine")

    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--name", "a/b"], "--name must be a name without /"),
        (["--push", "me"], "--push must look like OWNER/NAME"),
        (["--public"], "--public is for --push"),
    ],
)
def test_wrong_flags_are_usage_errors(
    flags: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["export", "--out", str(tmp_path / "x"), *flags]) == 2
    assert words in capsys.readouterr().err


def test_an_unknown_world_is_a_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["export", "doom-hell", "--out", str(tmp_path / "x")]) == 3
    assert "shipped worlds: bionic-blue, doom-hall, doom-hall-learned" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


class Hub:
    """Takes what is uploaded, as the real one would."""

    endpoint = "https://hub.example"
    calls: list[tuple[str, dict[str, Any]]]

    def __init__(self, token: bool) -> None:
        type(self).calls = []

    def create_repo(self, name: str, **options: Any) -> None:
        self.calls.append((name, options))

    def upload_folder(self, **options: Any) -> None:
        self.calls.append(("upload", options))


def test_publishing_uploads_the_files_of_a_world_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "HfApi", Hub)
    export("doom-hall", tmp_path / "mine")

    url = publish(tmp_path / "mine", "me/hall", is_public=False)

    (name, made), (_, sent) = Hub.calls
    assert url == "https://hub.example/me/hall"
    assert name == "me/hall" and made == {"private": True, "exist_ok": True}
    assert sent["folder_path"] == tmp_path / "mine" and sent["allow_patterns"] == HUB_FILES


def test_who_is_not_logged_in_is_told_how_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.utils._headers.get_token", lambda: None)

    code = cli.main(["export", "--out", str(tmp_path / "x"), "--push", "me/hall"])

    assert code == 4
    assert "me/hall: nobody is logged in on the hub here" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_a_hub_that_cannot_be_reached_is_said_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Away(huggingface_hub.HfApi):
        def __init__(self, token: bool) -> None:
            super().__init__(endpoint="http://127.0.0.1:9", token="hf_none")

    monkeypatch.setattr(sharing, "HfApi", Away)

    with pytest.raises(MachineError, match=r"^me/hall: .*(refused|connect|attempts)"):
        publish(tmp_path, "me/hall", is_public=False)
