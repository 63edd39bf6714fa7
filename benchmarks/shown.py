"""What people see of a report: a table, and a plot."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worldsim.benchmarks.plot import Axes, Points, draw
from worldsim.benchmarks.timing import table

Report = Mapping[str, Any]
SHARES = {"p50": 50.0, "p95": 95.0, "p99": 99.0, "max": 100.0}


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A report, for people."""

    text: str
    axes: Axes
    lines: Mapping[str, Points]

    def draw(self, path: Path) -> None:
        """Write the plot."""
        draw(path, self.axes, self.lines)


def tails(rows: Mapping[str, Mapping[str, float]]) -> dict[str, Points]:
    """Rows of percentiles as lines."""
    return {name: [(SHARES[k], row[k]) for k in SHARES] for name, row in rows.items()}


def latency(report: Report) -> Shown:
    """Of `bench latency` and `bench socket`: percentiles, then what was missed."""
    rows = {"action to frame": {k: report[f"{k}_ms"] for k in SHARES}}
    for key, label in (("busy_ms", "busy (whole tick)"), ("spacing_ms", "frame spacing")):
        if key in report:
            rows[label] = report[key]
    inner = {f"  {stage}": row for stage, row in report["stages"].items()}
    share = 100 * report["missed_fraction"]
    missed = f"missed {report['missed']} ({share:.2f} %), {report['frames']} frames arrived"
    missed += f", budget {report['budget_ms']} ms"
    text = table(report["command"].removeprefix("bench "), rows | inner) + "\n" + missed
    return Shown(text=text, axes=_tail_axes(report), lines=tails(rows))


def load(report: Report) -> Shown:
    """Of `bench load`: one line per kind of figure."""
    rows = {"frame spacing": report["spacing_ms"], "batch": report["batch_ms"]}
    summary = (
        f"{report['clients']} players, {report['viewers']} viewers at {report['rate']:g} Hz: "
        f"at least {report['fps_min']:.2f} frames/s each, "
        f"spacing p99 {report['spacing_p99_ticks']:.2f} ticks, "
        f"missed {100 * report['missed_fraction']:.2f} %, "
        f"degraded {100 * report['degraded_fraction']:.2f} %, "
        f"server {report['server_rss_mb']} MB, {report['backend']}"
    )
    if "steady" in report:
        steady = report["steady"]
        low, high = steady["descriptors"]
        quarters = ", ".join(f"{p99:.2f}" for p99 in steady["spacing_p99_ticks_by_quarter"])
        summary += (
            f"\nover {steady['seconds']:.0f} s: memory {steady['memory_mb_per_10_min']:+.2f} MB in "
            f"10 minutes, {low} to {high} descriptors, spacing p99 by quarter {quarters} ticks"
        )
    return Shown(
        text=table("load", rows) + "\n" + summary, axes=_tail_axes(report), lines=tails(rows)
    )


def curve(report: Report) -> Shown:
    """Of `bench curve`: one line per load, then what viewers cost."""
    lines = ["players  frames/s  spacing p99   missed  degraded  batch p50 / p99"]
    for row in report["curve"]:
        lines.append(
            f"{row['clients']:>7} {row['fps_min']:9.2f} {row['spacing_p99_ticks']:6.2f} ticks "
            f"{100 * row['missed_fraction']:6.2f} % {100 * row['degraded_fraction']:7.2f} % "
            f"{row['batch_ms']['p50']:7.1f} / {row['batch_ms']['p99']:.1f} ms"
            + ("" if row["holds"] else "  does not hold")
        )
    beside = report["viewers"]
    lines.append(
        f"{report['holds']} players hold at {report['rate']:g} Hz, {report['backend']}; "
        f"with {beside['count']} viewers ({beside['viewers_fps_min']:.1f} frames/s at least) the "
        "figures of one player change by "
        + ", ".join(f"{name} {100 * value:+.1f} %" for name, value in beside["change"].items())
    )
    points = {
        f"batch {share}": [(row["clients"], row["batch_ms"][share]) for row in report["curve"]]
        for share in ("p50", "p99")
    }
    axes = Axes(title=f"{report['command']}, {report['world']}", x="players", y="ms")
    return Shown(text="\n".join(lines), axes=axes, lines=points)


def context(report: Report) -> Shown:
    """Of `bench context`: the two states, then the twins by length of the past."""
    young, old = report["ages"]
    rows = {f"{young} frames old": report["young_ms"], f"{old} frames old": report["old_ms"]}
    ratio, curve = report["ratio_10000_100"], report["twins"]
    lines = [
        table("context", rows),
        f"ratio of medians {ratio['value']} [{ratio['lo']}, {ratio['hi']}], "
        f"memory {report['memory_ratio']}",
        f"{'frames':>8} {'mamba':>9} {'window':>9} {'full':>9} ms    "
        f"{'mamba':>9} {'window':>9} {'full':>9} MB",
    ]
    for point in curve:
        numbers = [
            " ".join(f"{point[f'{kind}_{unit}']:9.2f}" for kind in ("mamba", "window", "full"))
            for unit in ("ms", "mb")
        ]
        lines.append(f"{point['frames']:>8} {numbers[0]} ms    {numbers[1]} MB")
    lines.append(
        f"operations of mixing over time, 7,200 frames, against full attention: "
        f"{report['flops_ratio_7200']:.4f}; without projections "
        f"{report['flops_ratio_7200_without_projections']:.4f}; "
        f"if it saw all places {report['flops_ratio_7200_joint']:.4f}"
    )
    return Shown(
        text="\n".join(lines),
        axes=Axes(title="trunk, one tick", x="frames before it", y="ms", log=True),
        lines={
            f"{kind} over time": [(p["frames"], p[f"{kind}_ms"]) for p in curve]
            for kind in ("mamba", "window", "full")
        },
    )


def cold(report: Report) -> Shown:
    """Of `bench cold`."""
    rows = {**report["imports_ms"], "first frame": report["first_frame_ms"]}
    text = table("from process start to", rows)
    text += f"\nimport of worldsim beyond torch: {report['import_beyond_torch_ms']:.0f} ms"
    return Shown(text=text, axes=_tail_axes(report), lines=tails(rows))


def model(report: Report) -> Shown:
    """Of `bench model`: one line per part."""
    header = f"{'part':<10} {'parameters':>12} {'GFLOP':>9} {'MB':>9} {'least MB':>9} {'floor':>8}"
    lines = [header + f" {'measured':>9}   ms, K = {report['k']}"]
    for name, row in [*report["parts"].items(), ("tick", report["tick"])]:
        count = row.get("parameters", report["parameters"]["all"])
        measured = row.get("measured_ms")
        lines.append(
            f"{name:<10} {count:>12,} {row['flops'] / 1e9:9.3f} {row['bytes'] / 1e6:9.2f} "
            f"{row['least_bytes'] / 1e6:9.2f} {row['floor_ms']:8.2f} "
            + (f"{measured:9.2f}" if measured else f"{'-':>9}")
        )
    floors = report["floors"]
    lines.append(
        f"trunk and head {report['parameters']['trunk_and_head']:,} parameters; {report['device']} "
        f"at best {floors['fp32_gflops']:g} GFLOP/s float32, {floors['bf16_gflops']:g} bfloat16, "
        f"{floors['copy_gb_per_s']:g} GB/s"
    )
    parts = report["parts"].values()
    bars = {"floor (float32)": [(float(i), row["floor_ms"]) for i, row in enumerate(parts)]}
    if all("measured_ms" in row for row in parts):
        bars["measured"] = [(float(i), row["measured_ms"]) for i, row in enumerate(parts)]
    axes = Axes(title=", ".join(report["parts"]), x="part", y="ms per tick")
    return Shown(text="\n".join(lines), axes=axes, lines=bars)


def train(report: Report) -> Shown:
    """Of `bench train`."""
    ratio = report["speedup"]
    text = table("one update", {"here": report["update_ms"], "plain": report["plain_ms"]})
    text += (
        f"\n{report['frames_per_second']:.1f} frames/s, "
        f"plain {report['plain_frames_per_second']:.1f}"
        f": {ratio['value']:.2f} [{ratio['lo']:.2f}, {ratio['hi']:.2f}] times as fast; "
        f"{100 * report['peak_share']:.1f} % of the {report['precision']} peak; "
        f"input {100 * report['input_share']:.2f} % of the time\n"
        f"losses differ by {report['loss_difference']['value']:+.4f} "
        f"[{report['loss_difference']['lo']:+.4f}, {report['loss_difference']['hi']:+.4f}]"
    )
    curves = {
        name: [(float(i), value) for i, value in enumerate(report["losses"][name])]
        for name in ("here", "plain")
    }
    axes = Axes(title="dynamics, loss", x="update", y="loss")
    return Shown(text=text, axes=axes, lines=curves)


def _tail_axes(report: Report) -> Axes:
    return Axes(title=f"{report['command']}, {report['world']}", x="% of samples", y="ms")


SHOWN: dict[str, Callable[[Report], Shown]] = {
    "latency": latency,
    "socket": latency,
    "load": load,
    "curve": curve,
    "context": context,
    "train": train,
    "cold": cold,
    "model": model,
}
