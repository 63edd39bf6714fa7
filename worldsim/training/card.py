"""The model card of a world folder: generated, so that it never tells of another world."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from worldsim.folder import WorldConfig, read_config, write_config

BLOCKS = ("lam", "objects", "audio", "memory", "long")  # whose figures bear their names

FIGURES = ("measured", "speed")  # of a world's training: not those of one made from it

FRONT = """---
library_name: worldsim
license: apache-2.0
tags: [world-model]
---
"""


def write_card(folder: Path, config: WorldConfig) -> None:
    """README.md of a world, from its config.json alone."""
    height, width = config.tokenizer.height, config.tokenizer.width
    lines = [
        f"# {config.name}",
        "",
        f"A world to walk around in: {width}x{height} pixels at {config.fps:g} frames per second. "
        f"Controls: {', '.join(config.bindings)}.",
        "",
        "**Everything that this world shows is AI-generated.**",
        "",
        "## Training",
        "",
        *_history(config.training.get("history", [])),
        "",
        "## Measured",
        "",
        *_measured(config.training.get("measured")),
        "",
        "## Speed",
        "",
        *_speed(config.training.get("speed", {})),
        "",
        "## Known failures",
        "",
        *_failures(config.training.get("failures", [])),
        "",
    ]
    (folder / "README.md").write_text(FRONT + "\n".join(lines))


def record_measurement(folder: Path, report: Mapping[str, Any]) -> None:
    """Put the figures of an `eval` report into config.json and the card, beside those of other
    blocks."""
    flat = dict(report)
    for block in BLOCKS:
        flat |= {f"{block}.{k}": v for k, v in report.get(block, {}).items()}
    flat |= {f"alarm.{k}": v for k, v in report.get("alarm", {}).get("detector", {}).items()}
    graded = {k: v for k, v in flat.items() if isinstance(v, dict) and "value" in v}
    config = read_config(folder)
    before = config.training.get("measured", {})
    # what could be measured once stays, where it cannot be now
    new = {k: v for k, v in graded.items() if v["value"] is not None or k not in before}
    measured = {**before, **new}
    training = {**config.training, "measured": measured}
    write_config(folder, replace(config, training=training))
    write_card(folder, read_config(folder))


def record_speed(folder: Path, report: Mapping[str, Any]) -> None:
    """Put what `bench latency` found into config.json and the card, one row per machine, backend,
    threads and flow steps."""
    env = report["env"]
    where = f"{env['cpu']}, {report['backend']}, threads {env['threads']}, K = {report['k']}"
    figures = {key: report[f"{key}_ms"] for key in ("p50", "p99")}
    busy = {f"busy_{key}": report["busy_ms"][key] for key in ("p50", "p99")}
    row = {**figures, **busy, "period": report["budget_ms"]}
    config = read_config(folder)
    speed = {**config.training.get("speed", {}), where: row}
    write_config(folder, replace(config, training={**config.training, "speed": speed}))
    write_card(folder, read_config(folder))


def _speed(rows: Mapping[str, Mapping[str, float]]) -> list[str]:
    if not rows:
        return ["Not measured yet: `worldsim bench latency --card` does it."]
    lines = [
        "| where | action to encoded frame, p50 / p99 | whole tick, p50 / p99 | a tick may take |"
    ]
    lines.append("| --- | --- | --- | --- |")
    for where, row in rows.items():
        late, busy = (f"{row[f'{k}p50']:.1f} / {row[f'{k}p99']:.1f} ms" for k in ("", "busy_"))
        lines.append(f"| {where} | {late} | {busy} | {row['period']:.1f} ms |")
    return lines


def _history(history: list[dict[str, Any]]) -> list[str]:
    if not history:
        return ["No account was kept."]
    rows = ["| command | frames | hours | threads | updates |", "| --- | --- | --- | --- | --- |"]
    for run in history:
        updates = ", ".join(f"{n} {stage}" for stage, n in run.get("steps", {}).items())
        told = [str(run.get(k, "")) for k in ("command", "frames", "hours", "threads")]
        rows.append("| " + " | ".join([*told, updates]) + " |")
    return rows


def _measured(figures: dict[str, Any] | None) -> list[str]:
    if not figures:
        return ["Not measured yet: `worldsim eval` does it."]
    rows = ["| quantity | value | 95 % interval | n |", "| --- | --- | --- | --- |"]
    for name, graded in figures.items():
        if isinstance(graded, dict) and graded.get("value") is not None and "lo" in graded:
            low, high = graded["lo"], graded["hi"]
            bounds = f"{low:.3g} .. {high:.3g}" if low is not None else ""
            rows.append(f"| {name} | {graded['value']:.3g} | {bounds} | {graded.get('n', '')} |")
    return rows


def _failures(failures: list[str]) -> list[str]:
    return [f"- {failure}" for failure in failures] or ["None were written down."]
