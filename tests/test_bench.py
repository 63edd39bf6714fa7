"""`worldsim bench`: every name ends with one JSON line, a table for people and a plot."""

import json
from pathlib import Path
from typing import Any

import pytest

from worldsim import cli
from worldsim.benchmarks import cold, context, model
from worldsim.commands import bench

PERCENTILES = {"p50": 1.0, "p95": 2.0, "p99": 3.0, "max": 4.0}


def test_a_bench_prints_one_json_line_and_draws(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    floors = {"fp32_gflops": 100.0, "bf16_gflops": 200.0, "copy_gb_per_s": 10.0}
    monkeypatch.setattr(model, "measure_floors", lambda _: floors)
    file, plot = tmp_path / "sub" / "r.json", tmp_path / "p.png"

    code = cli.main(
        ["bench", "model", "--preset", "small", "--json", str(file), "--plot", str(plot)]
    )

    out, err = capsys.readouterr()
    assert code == 0
    assert out.count("\n") == 1 and json.loads(out) == json.loads(file.read_text())
    assert json.loads(out)["command"] == "bench model"
    assert "trunk" in err and "commit" in err and str(plot) in err
    assert plot.stat().st_size > 1000


def test_a_plot_that_cannot_be_written_costs_no_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    floors = {"fp32_gflops": 100.0, "bf16_gflops": 200.0, "copy_gb_per_s": 10.0}
    monkeypatch.setattr(model, "measure_floors", lambda _: floors)
    (tmp_path / "file").touch()
    plot = tmp_path / "file" / "p.png"

    code = cli.main(["bench", "model", "--preset", "small", "--plot", str(plot)])

    out, err = capsys.readouterr()
    assert code == 4
    assert json.loads(out)["command"] == "bench model"
    assert "p.png: cannot be written" in err.splitlines()[-1]


@pytest.mark.parametrize(
    "flags",
    [
        ["train", "--data", "nowhere"],
        ["model", "--preset", "huge"],
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code = cli.main(["bench", *flags])

    out, err = capsys.readouterr()
    assert code in (2, 3)
    assert out == "" and err.count("\n") == 1


def test_context_and_cold_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def young_and_old(world: Any, *, frames: int, say: Any) -> dict[str, Any]:
        seen["frames"] = frames
        points = [
            {"frames": n} | {f"{kind}_{unit}": float(n) for kind in kinds for unit in ("ms", "mb")}
            for n in (100, 7200)
        ]
        ratio = {"value": 1.0, "lo": 0.99, "hi": 1.01, "n": 500}
        shares = dict.fromkeys(("", "_without_projections", "_joint"), 0.01)
        return {
            "ratio_10000_100": ratio,
            "memory_ratio": 1.0,
            **{f"flops_ratio_7200{key}": value for key, value in shares.items()},
            "ages": [100, frames],
            "young_ms": PERCENTILES,
            "old_ms": PERCENTILES,
            "twins": points,
            "env": {},
        }

    kinds = ("mamba", "window", "full")
    monkeypatch.setattr(context, "measure_context", young_and_old)
    monkeypatch.setattr(cold, "_start", lambda program, world: 1.0)
    for name in ("context", "cold"):
        assert cli.main(["bench", name, "--plot", str(tmp_path / f"{name}.png")]) == 0
    out, err = capsys.readouterr()

    assert seen["frames"] == 10_000
    assert len(out.splitlines()) == 2
    assert "10000 frames old" in err and "first frame" in err
    assert {path.name for path in tmp_path.iterdir()} == {"context.png", "cold.png"}


def test_every_name_has_a_way_to_be_shown() -> None:
    from worldsim.benchmarks.shown import SHOWN

    for name in SHOWN:
        assert callable(getattr(bench.Bench, f"_{name}"))
