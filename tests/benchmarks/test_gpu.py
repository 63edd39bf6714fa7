"""`make gpu` does on a GPU what nobody can see here: its parts must at least run."""

import json
from pathlib import Path

from worldsim.benchmarks.gpu import Job, run

FIXTURE = Path(__file__).parents[1] / "data" / "doom-hall"


def test_the_default_world_is_trained_on_and_the_next_run_skips_what_is_done(
    tmp_path: Path,
) -> None:
    job = Job(out=tmp_path, data=FIXTURE, device="cpu", toy=True, part="train")

    found = run(job)["train"]
    written = json.loads((tmp_path / "train.json").read_text())
    again = run(job)["train"]

    assert "error" not in found, found
    assert not found["unfinished"]
    assert found["last"]["stage"] == "dynamics"
    assert (Path(found["world"]) / "model.safetensors").is_file()
    assert found["largest_checkpoint_file"] <= 16e6
    assert again == written
