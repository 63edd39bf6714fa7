"""`worldsim doctor` answers at once, imports nothing heavy, and names what is missing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from worldsim import doctor
from worldsim.commands.doctor import Doctor

HEAVY = ("torch", "pygame", "vizdoom", "av", "gymnasium")


def test_a_report_is_json_and_knows_this_machine() -> None:
    found = doctor.report()

    assert json.loads(json.dumps(found)) == found
    assert found["cores"]
    packages = found["packages"]
    assert isinstance(packages, dict)
    assert packages["torch"]
    assert doctor.installed("no-such-distribution") is None


def test_it_imports_nothing_heavy() -> None:
    script = (
        "import sys; from worldsim.cli import main; code = main(['doctor']); "
        f"heavy = [m for m in {HEAVY!r} if m in sys.modules]; sys.exit(code or bool(heavy))"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=30)

    assert done.returncode == 0, done.stderr.decode()


def test_the_last_line_is_the_json_object(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = Doctor(json_file=tmp_path / "doctor.json").run()

    captured = capsys.readouterr()
    printed = json.loads(captured.out.strip().splitlines()[-1])
    assert code == 0
    assert printed == json.loads((tmp_path / "doctor.json").read_text(encoding="utf-8"))
    assert "packages" in captured.err


def test_problems_name_the_remedy() -> None:
    found = doctor.report() | {"openal": False, "display": False, "worlds": [], "probe": None}
    packages = dict.fromkeys(doctor.PACKAGES, "1.0")

    text = " ".join(doctor.problems(found | {"packages": packages}))
    bare = " ".join(doctor.problems(found | {"packages": packages | {"torch": None}}))

    assert "libopenal1" in text
    assert "no display" in text
    assert "--probe" in text
    assert "torch is not installed" in bare


def test_a_damaged_probe_is_no_probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "cache_dir", lambda: tmp_path)

    assert doctor.cached_probe() is None
    (tmp_path / "probe.json").write_text("{ torn", encoding="utf-8")
    assert doctor.cached_probe() is None
    (tmp_path / "probe.json").write_text('{"matmul_gflops": 1.0}', encoding="utf-8")
    assert doctor.cached_probe() == {"matmul_gflops": 1.0}


def test_a_probe_is_measured_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "cache_dir", lambda: tmp_path / "cache")
    monkeypatch.setattr(doctor, "shipped_worlds", lambda: [])

    found = doctor.probe()

    assert float(str(found["matmul_gflops"])) > 0
    assert doctor.cached_probe() == found
