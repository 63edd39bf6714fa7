"""Every code block of README.md, held to what the project does.

- `python` blocks run as they stand, in order and in one namespace, in an empty folder. The server
  that one of them needs is the one of README's `worldsim serve` line; only its port is a free one.
- `console` blocks: a `make` line must be a target, a `pip` line must name an extra that exists, and
  every `worldsim` line must parse. `SMALLER` then says what is run in its place: the same command
  on little data, in order and in one folder. The ones that take long are marked slow.
- the block without a language is the tree: its folders must exist.
"""

import re
import shlex
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from worldsim import cli

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
LINES = [line for kind, text in BLOCKS if kind == "console" for line in text.splitlines()]
PYTHON = [text for kind, text in BLOCKS if kind == "python"]

CHEAP = {
    "worldsim play": "worldsim play --headless --frames 20 --out clip.mp4",
    "worldsim doctor": "worldsim doctor",
    "worldsim bench latency": "worldsim bench latency --frames 20",
    "worldsim bench socket": "worldsim bench socket --seconds 1",
}
OWN = {  # what tests/test_own_videos.py runs as it stands, on real videos
    "worldsim data scan my_videos",
    "worldsim train my_videos --out runs/first --preset small",
    "worldsim actions runs/first/world --out atlas",
    "worldsim play runs/first/world",
}
LONG = {  # in the order of README: each needs what the ones before it left behind
    "worldsim record doom-hall --out recordings --minutes 20": (
        "worldsim record doom-hall --out recordings --minutes 0.5"
    ),
    "worldsim data scan recordings": "worldsim data scan recordings",
    "worldsim train recordings --out runs/mine --minutes 240": (
        "worldsim train recordings --out runs/mine --steps 8"
    ),
    "worldsim actions runs/mine/world --out atlas": (
        "worldsim actions runs/mine/world --out atlas --scenes 1 --frames 2"
    ),
    "worldsim play runs/mine/world": (
        "worldsim play runs/mine/world --headless --frames 5 --out mine.mp4"
    ),
    "worldsim actions runs/mine/world --fit recordings --labels 200": (
        "worldsim actions runs/mine/world --fit recordings --labels 200 --scenes 1 --frames 2"
    ),
    "worldsim record doom-hall --out held-out --minutes 24 --seed 100000": (
        "worldsim record doom-hall --out held-out --minutes 0.5 --seed 100000"
    ),
    "worldsim eval runs/mine/world --data held-out --blocks world,lam": (
        "worldsim eval runs/mine/world --data held-out --blocks world,lam --tier smoke"
    ),
}
SERVED = "worldsim serve doom-hall --port 8765"


def run(command: str, folder: Path, timeout: float) -> str:
    """Run a `worldsim` line with this interpreter; fails the test if the command fails."""
    code = "import sys; from worldsim.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, *shlex.split(command)[1:]],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_every_line_of_the_console_is_accounted_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for line in LINES:
        program, *words = shlex.split(line)
        if program == "make":
            assert words[0] in targets, line
        elif program == "pip":
            extras = re.findall(r"\[(.*)\]", line)[0].split(",")
            assert set(extras) <= project["optional-dependencies"].keys(), line
        else:
            assert program == "worldsim" and line in {*CHEAP, *OWN, *LONG, SERVED}, line


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("worldsim")])
def test_commands_parse_as_written(line: str) -> None:
    command = cli.parse(shlex.split(line)[1:])

    assert callable(command.run)


@pytest.mark.parametrize("line", CHEAP)
def test_quick_commands_run(line: str, tmp_path: Path) -> None:
    assert line in LINES

    run(CHEAP[line], tmp_path, timeout=120)


@pytest.mark.slow
def test_recording_training_playing_and_grading_a_world_of_ones_own(tmp_path: Path) -> None:
    assert [line for line in LINES if line in LONG] == list(LONG)

    for smaller in LONG.values():
        run(smaller, tmp_path, timeout=600)

    assert (tmp_path / "runs/mine/world/model.safetensors").is_file()
    assert (tmp_path / "mine.mp4").stat().st_size > 0


@pytest.fixture
def port() -> Iterator[int]:
    """Where README's `worldsim serve` line listens, but for the number of the port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    words = shlex.split(SERVED)[1:-1]
    code = "import sys; from worldsim.cli import main; sys.exit(main())"
    process = subprocess.Popen([sys.executable, "-c", code, *words, str(port)])
    deadline = time.monotonic() + 60
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except ConnectionRefusedError:
                assert process.poll() is None, f"{SERVED} ended with {process.returncode}"
                assert time.monotonic() < deadline, f"{SERVED} does not listen after 60 s"
                time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait(timeout=20)


def test_python_examples_run_as_written(
    port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    written = shlex.split(SERVED)[-1]
    assert SERVED in LINES and any(f"127.0.0.1:{written}" in text for text in PYTHON)
    names: dict[str, object] = {}

    for text in PYTHON:
        exec(compile(text.replace(written, str(port)), "README.md", "exec"), names)

    with Image.open("frame.png") as picture:
        assert picture.size == (128, 96)


def test_the_tree_lists_folders_that_exist() -> None:
    (tree,) = (text for kind, text in BLOCKS if not kind)

    for line in tree.splitlines():
        assert (ROOT / line.split()[0]).is_dir(), line


def test_links_and_pictures_point_at_files_that_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert "://" in target or (ROOT / target).is_file(), f"README.md links to {target}"
