"""What a frame, a start and an update cost: counted, and with their tails."""

import time
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from PIL import Image
from torch import nn

from worldsim.benchmarks import cold, gpu, model, shown, train
from worldsim.benchmarks.plot import Axes, draw
from worldsim.benchmarks.timing import percentiles
from worldsim.dynamics.trunk import SpaceLayer, TrunkLayer
from worldsim.errors import MachineError
from worldsim.model import WorldModel
from worldsim.training.begin import config_of
from worldsim.training.presets import PRESETS


def test_operations_and_bytes_of_a_layer_are_known() -> None:
    layer = torch.nn.Linear(10, 20, bias=False)
    x = torch.randn(4, 10)

    row = model.count(model.Part(modules=(layer,), run=lambda: layer(x), times=3, state_bytes=8))

    assert row["flops"] == 3 * 2 * 4 * 10 * 20
    assert row["least_bytes"] == 3 * (10 * 20 * 4 + 8)
    assert row["bytes"] >= 3 * 4 * (4 * 10 + 10 * 20 + 4 * 20)


def test_a_floor_is_what_takes_longer() -> None:
    floors = {"fp32_gflops": 100.0, "copy_gb_per_s": 10.0}

    assert model.floor_ms({"flops": 1e9, "least_bytes": 0.0}, floors) == pytest.approx(10.0)
    assert model.floor_ms({"flops": 1e9, "least_bytes": 1e9}, floors) == pytest.approx(100.0)


def test_the_large_preset_is_large_and_remembers_in_every_fourth_layer() -> None:
    with torch.device("meta"):
        large = WorldModel(config_of(PRESETS["large"], "large"))

    kinds = [type(layer) for layer in large.dynamics.trunk.layers]

    assert model.size(large.dynamics) >= 300e6
    assert kinds == 4 * [SpaceLayer, SpaceLayer, SpaceLayer, TrunkLayer]
    assert large.tokenizer.config.height * large.tokenizer.config.width >= 1280 * 720


def test_every_part_is_counted_once_without_memory_to_hold_it() -> None:
    with torch.device("meta"):
        large = WorldModel(config_of(PRESETS["large"], "large")).requires_grad_(False)

    rows = {name: model.count(part) for name, part in model.parts(large, 4, "meta").items()}

    assert set(rows) == {"mover", "encoder", "flow", "decoder", "motion", "trunk"}
    assert rows["trunk"]["flops"] > 1e11
    assert all(row["flops"] > 0 for name, row in rows.items() if name != "motion")


def test_a_slow_start_shows_and_torch_is_subtracted() -> None:
    seconds = {"torch": 1.0, "worldsim.World\n": 1.4, "step": 3.0}
    starts = iter(range(100))

    def start(program: str, world: str) -> float:
        stall = 0.5 if next(starts) == 7 else 0.0  # the second first frame
        found = [s for word, s in seconds.items() if word in program]
        return stall + (found[-1] if found else 0.1)

    found = cast(dict[str, Any], cold.measure_cold("w", runs=3, start=start))

    assert found["import_beyond_torch_ms"] == pytest.approx(400.0)
    assert found["first_frame_ms"]["p50"] == pytest.approx(3000.0)
    assert found["first_frame_ms"]["max"] == pytest.approx(3500.0)
    assert "import of worldsim beyond torch" in shown.cold({**found, "command": "bench cold"}).text


def test_a_process_that_fails_is_an_error_with_its_own_words() -> None:
    with pytest.raises(MachineError, match="no such world"):
        cold._start("raise SystemExit('no such world')", "w")


class Updates:
    """A stage whose third update stalls for half a second."""

    def __init__(self, *, stalls: bool) -> None:
        self.model = nn.Linear(1, 1)
        self._stalls, self._count = stalls, 0

    def update(self, progress: float) -> dict[str, torch.Tensor]:
        self._count += 1
        if self._stalls and self._count == 4:
            time.sleep(0.5)
        return {"loss": torch.rand(())}


def test_a_stalled_update_shows_and_both_sides_draw_the_same() -> None:
    stages = cast(Any, (Updates(stalls=True), Updates(stalls=False)))

    samples, losses = train.alternate(*stages, seconds=0.0)

    assert percentiles(samples["here"])["max"] > 500
    assert percentiles(samples["plain"])["max"] < 500
    assert losses["here"] == losses["plain"] and len(set(losses["here"])) > 1


def test_curves_that_differ_are_told_from_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    plain = (1 + 0.1 * torch.rand(64, generator=generator)).tolist()
    noisy = [x + 0.02 * (i % 2 - 0.5) for i, x in enumerate(plain)]

    same, worse = train.difference(noisy, plain), train.difference([1.1 * x for x in plain], plain)

    assert same["lo"] <= 0 <= same["hi"]
    assert worse["lo"] > 0.05 and worse["value"] == pytest.approx(0.1, abs=1e-3)


def test_a_plot_has_its_lines(tmp_path: Any) -> None:
    draw(
        tmp_path / "deep" / "p.png",
        Axes(title="t", x="frames", y="ms", log=True),
        {"one": [(1.0, 1.0), (100.0, 50.0)], "dot": [(10.0, 3.0)]},
    )

    with Image.open(tmp_path / "deep" / "p.png") as image:
        colours = {colour for _, colour in image.getcolors(1 << 20) or []}
    assert {(31, 95, 168), (196, 80, 27)} <= colours


def test_parts_of_a_gpu_run_are_done_once_and_failures_are_told(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def part(name: str, *, fails: bool) -> Any:
        def work(job: gpu.Job) -> dict[str, object]:
            done.append(name)
            if fails and done.count(name) == 1:
                raise ValueError("out of memory")
            return {"unfinished": name == "train" and done.count(name) < 3}

        return work

    parts = {name: part(name, fails=name == "latency") for name in ("parity", "latency", "train")}
    monkeypatch.setattr(gpu, "PARTS", parts)
    monkeypatch.setattr(gpu, "measure_floors", lambda _: {})
    data = tmp_path / "data"
    data.mkdir()
    job = gpu.Job(out=tmp_path / "out", data=data, device="cpu", toy=True)

    first = gpu.run(job)
    for _ in range(3):
        last = gpu.run(job)

    assert first["latency"]["error"] == "ValueError: out of memory"
    assert "error" not in last["latency"]
    assert [done.count(name) for name in parts] == [1, 2, 3]
    (data / "big.mkv").write_bytes(bytes(41_000_000))
    with pytest.raises(ValueError, match="at most 40"):
        gpu.run(job)


def test_the_latency_of_a_shrunken_large_world_is_measured_and_says_random(tmp_path: Any) -> None:
    job = gpu.Job(out=tmp_path, data=tmp_path, device="cpu", toy=True)

    found = cast(Any, gpu.latency(job))

    assert found["weights"] == "random"
    assert SimpleNamespace(**found["large"]).frames == 10
    assert found["large"]["p50_ms"] > 0
