"""The model card tells of its own world: its training, its figures, its failures."""

from dataclasses import replace
from pathlib import Path

from worldsim.dynamics import DynamicsConfig
from worldsim.folder import WorldConfig, read_config, write_config
from worldsim.tokenizer import TokenizerConfig
from worldsim.training.card import record_measurement, record_speed, write_card

CONFIG = WorldConfig(
    name="hall",
    fps=35.0,
    actions=["noop"],
    bindings={"noop": 0},
    tokenizer=TokenizerConfig(),
    dynamics=DynamicsConfig(num_actions=1),
)


def test_figures_go_into_the_config_and_the_card(tmp_path: Path) -> None:
    write_config(tmp_path, CONFIG)
    report = {
        "command": "eval",
        "g1": {"value": 1.25, "lo": 1.0, "hi": 1.5, "n": 40},
        "cfr4": {"value": None, "lo": None, "hi": None, "n": 0, "why": "no game"},
        "lam": {"nmi": {"value": 0.3, "lo": 0.25, "hi": 0.35, "n": 40}},
        "frozen": {"g1": {"value": 0.0, "lo": 0.0, "hi": 0.0, "n": 40}},
    }

    record_measurement(tmp_path, report)

    card = (tmp_path / "README.md").read_text()
    assert "| g1 | 1.25 | 1 .. 1.5 | 40 |" in card
    assert "| lam.nmi | 0.3 | 0.25 .. 0.35 | 40 |" in card
    assert "cfr4" not in card
    assert set(read_config(tmp_path).training["measured"]) == {"g1", "cfr4", "lam.nmi"}

    more = {"memory": {"mg_64": {"value": 2.0, "lo": 1.0, "hi": 3.0, "n": 20}}}
    record_measurement(tmp_path, more)

    card = (tmp_path / "README.md").read_text()
    assert "| memory.mg_64 | 2 | 1 .. 3 | 20 |" in card
    assert "| g1 | 1.25 | 1 .. 1.5 | 40 |" in card


def test_known_failures_and_the_notice_stand_in_the_card(tmp_path: Path) -> None:
    write_card(tmp_path, replace(CONFIG, training={"failures": ["It forgets."]}))

    card = (tmp_path / "README.md").read_text()
    assert "- It forgets." in card
    assert "AI-generated" in card
    assert "Not measured yet" in card


def test_the_card_says_how_fast_it_was_and_where(tmp_path: Path) -> None:
    write_config(tmp_path, CONFIG)
    write_card(tmp_path, CONFIG)
    assert "`worldsim bench latency --card` does it" in (tmp_path / "README.md").read_text()

    for p50 in (13.0, 11.0):
        record_speed(tmp_path, latency("torch", p50))
    record_speed(tmp_path, latency("openvino", 6.0))

    card = (tmp_path / "README.md").read_text()
    assert "| EPYC, torch, threads 1, K = 2 | 11.0 / 22.0 ms | 15.0 / 18.0 ms | 28.6 ms |" in card
    assert "13.0" not in card and "| EPYC, openvino, threads 1, K = 2 | 6.0 / 12.0 ms |" in card


def latency(backend: str, p50: float) -> dict[str, object]:
    return {
        "p50_ms": p50,
        "p99_ms": 2 * p50,
        "busy_ms": {"p50": 15.0, "p99": 18.0},
        "budget_ms": 28.571,
        "backend": backend,
        "k": 2,
        "env": {"cpu": "EPYC", "threads": 1},
    }
