"""The command line: dispatch, usage errors, and one exit code per kind of failure."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import pytest

from worldsim import cli
from worldsim.errors import CheckpointError, MachineError


@dataclass(frozen=True, kw_only=True)
class Fake:
    """A verb that only tests know."""

    frames: int = 3
    """how many frames to do, at least 1"""

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ValueError(f"frames must be > 0, got {self.frames}")

    def run(self) -> int:
        return self.frames


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Installs the verb `fake`; calling the fixture makes its `run` raise."""
    module = ModuleType("worldsim.commands.fake")
    module.Fake = Fake  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(cli.VERBS, "fake", "do nothing")

    def make_it_raise(error: BaseException) -> None:
        def run(self: Fake) -> int:
            raise error

        monkeypatch.setattr(Fake, "run", run)

    return make_it_raise


def test_flags_reach_the_command_and_its_answer_is_the_exit_code(
    fake: Callable[[BaseException], None],
) -> None:
    assert cli.main(["fake"]) == 3
    assert cli.main(["fake", "--frames", "7"]) == 7


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CheckpointError("there is no world\nat here"), 3),
        (MachineError("there is no world at here"), 4),
        (KeyboardInterrupt(), 130),
        (SystemExit("there is no world at here"), 2),
    ],
)
def test_each_failure_has_its_exit_code_and_one_line_on_stderr(
    fake: Callable[[BaseException], None],
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
) -> None:
    fake(error)

    assert cli.main(["fake"]) == code

    output = capsys.readouterr()
    assert output.out == ""
    assert output.err in ("worldsim: there is no world at here\n", "worldsim: interrupted\n")


def test_what_cannot_be_written_is_named(
    fake: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    fake(PermissionError(13, "Permission denied", "/there/atlas.png"))

    assert cli.main(["fake"]) == 4
    assert capsys.readouterr().err == "worldsim: /there/atlas.png: Permission denied\n"


@pytest.mark.parametrize("arguments", [["--help"], ["data", "scan", "tests/data"]])
def test_a_reader_that_leaves_is_no_error_of_ours(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "worldsim.cli", *arguments]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert running.stdout is not None and running.stderr is not None
    running.stdout.close()

    errors = running.stderr.read().decode()

    assert running.wait(60) == 141
    assert "Traceback" not in errors and "Broken" not in errors


def test_our_own_bugs_keep_their_traceback(fake: Callable[[BaseException], None]) -> None:
    for bug in (ValueError("a bug"), OSError("a bug"), BrokenPipeError("a bug")):
        fake(bug)

        with pytest.raises(type(bug), match="a bug"):
            cli.main(["fake"])


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["dance"], "there is no verb 'dance'"),
        (["fake", "--frames", "many"], "--frames"),
        (["fake", "--frames", "0"], "frames must be > 0, got 0"),
        (["fake", "--speed", "1"], "--speed"),
        ([], "usage: worldsim VERB"),
    ],
)
def test_what_does_not_parse_is_exit_code_2_and_is_quoted(
    fake: Callable[[BaseException], None],
    capsys: pytest.CaptureFixture[str],
    argv: list[str],
    sentence: str,
) -> None:
    assert cli.main(argv) == 2

    output = capsys.readouterr()
    assert output.out == ""
    assert sentence in output.err


def test_help_of_a_verb_shows_type_default_and_gloss(
    fake: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["fake", "--help"]) == 0

    text = capsys.readouterr().out
    for part in ("worldsim fake", "--frames", "INT", "3", "how many frames to do"):
        assert part in text


def test_overview_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0

    text = capsys.readouterr().out
    for verb, gloss in cli.VERBS.items():
        assert f"  {verb}" in text
        assert gloss in text


@pytest.mark.parametrize("verb", list(cli.VERBS))
def test_every_verb_explains_itself_without_torch_or_a_window_library(verb: str) -> None:
    code = (
        "import sys; from worldsim.cli import main; code = main(sys.argv[1:]);"
        "heavy = {'torch', 'pygame', 'vizdoom', 'diffusers'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, verb, "--help"], capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 0, done.stderr
    assert f"worldsim {verb}" in done.stdout


def test_version_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("worldsim 0.")


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["serve", "--port", "70000"], 2, "port must be 0..65535, got 70000"),
        (["serve", "--sessions", "0"], 2, "sessions (max_sessions) must be 1.."),
        (["play", "--device", "foo"], 4, "device 'foo' cannot be used here"),
        (["play", "--server", "ws://127.0.0.1:99999"], 3, "Port out of range"),
    ],
)
def test_a_wrong_value_of_a_flag_is_one_sentence(
    capsys: pytest.CaptureFixture[str], flags: list[str], code: int, said: str
) -> None:
    assert cli.main(flags) == code

    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"worldsim: {said}")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["serve", "--recordings", __file__], "recordings is a folder, and"),
        (["play", "--out", "clip.png"], "out is a clip, whose name ends in .mp4"),
        (["bench", "load", "--seconds", "nan"], "--seconds must be > 0, got nan"),
        (["bench", "load", "--rate", "0"], "--rate must be > 0, got 0"),
        (["eval", "doom-hall", "--data", ".", "--threads", "-1"], "--threads must be >= 0"),
    ],
)
def test_a_flag_that_breaks_a_rule_is_one_sentence(
    capsys: pytest.CaptureFixture[str], flags: list[str], said: str
) -> None:
    assert cli.main(flags) == 2
    assert said in " ".join(capsys.readouterr().err.split())
