"""The command line: one verb, one module, one frozen dataclass whose fields are the flags.

A verb lives in `worldsim/commands/VERB.py` as a dataclass of that name (`Play`, `Serve`, ...) with
`run() -> int`. It is imported only when it is asked for, so `worldsim --help` costs no torch.

Exit codes: 0 ok, 2 usage, 3 bad input file, 4 environment, 130 interrupted, 141 output not read.
"""

import os
import sys
from importlib import import_module
from typing import NoReturn, Protocol, cast

from worldsim import __version__
from worldsim.errors import MachineError, WorldsimError

USAGE, INTERRUPTED, UNREAD = 2, 130, 141  # the last two as shells count SIGINT and SIGPIPE

VERBS = {
    "play": "walk around in a world, in a window or headless",
    "serve": "offer a world to players over a websocket",
    "record": "play a real game by script and record it as videos",
    "train": "turn a folder of videos into a world",
    "actions": "see what the actions of a world do, and bind keys to them",
    "export": "write a world into a folder of its own, or to a model hub",
    "eval": "grade a world against held-out recordings",
    "bench": "measure latency and throughput",
    "data": "say what is in a folder of videos, and what is wrong with it",
    "doctor": "say what this machine can run, and what it lacks",
}


class Command(Protocol):
    """What every verb parses to."""

    def run(self) -> int:
        """Do it; the exit code comes back."""
        ...


def overview() -> str:
    """The text of `worldsim --help`."""
    lines = [
        "usage: worldsim VERB ...",
        "",
        "Ordinary videos in, a world that you can walk around in out.",
        "",
        *(f"  {verb:<7} {gloss}" for verb, gloss in VERBS.items()),
        "",
        "`worldsim VERB --help` shows its flags with types, units and defaults;",
        "`worldsim --version` the version. The first thing to try: worldsim play",
    ]
    return "\n".join(lines)


def parse(argv: list[str]) -> Command:
    """The command that `argv` (verb first) asks for, ready to run.

    Raises SystemExit with code 2 and a sentence on stderr for what does not parse, with code 0
    after `VERB --help`.
    """
    verb, *flags = argv
    if verb not in VERBS:
        fail_usage(f"there is no verb {verb!r}; there are {', '.join(VERBS)}")
    import tyro

    module = import_module(f"worldsim.commands.{verb}")
    try:
        command = tyro.cli(getattr(module, verb.capitalize()), args=flags, prog=f"worldsim {verb}")
    except ValueError as error:  # a field that parses but breaks a rule of the dataclass
        fail_usage(str(error))
    return cast(Command, command)


def fail_usage(message: str) -> NoReturn:
    """One sentence on stderr, then SystemExit(2)."""
    say(message)
    raise SystemExit(USAGE)


def say(message: str) -> None:
    """Write one line for a person; stdout is for results."""
    print(f"worldsim: {message}", file=sys.stderr)


def main(argv: list[str] | None = None) -> int:
    """Run the command line (`sys.argv` by default) and return the exit code."""
    try:
        code = _answer(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()  # here, where a reader that has left can be told from a bug
        return code
    except SystemExit as stop:  # `--help` and usage errors end this way
        if isinstance(stop.code, str):
            say(stop.code)
        return stop.code if isinstance(stop.code, int) else USAGE
    except WorldsimError as error:
        say(" ".join(str(error).split()))
        return error.exit_code
    except KeyboardInterrupt:
        say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        if not _is_unread():
            raise
        return UNREAD
    except OSError as error:  # a folder that is not ours, a file in the place of a folder
        if error.filename is None:
            raise
        say(f"{error.filename}: {error.strerror}")
        return MachineError.exit_code


def _answer(argv: list[str]) -> int:
    if argv in (["-h"], ["--help"], ["help"]):
        print(overview())
        return 0
    if argv == ["--version"]:
        print(f"worldsim {__version__}")
        return 0
    if not argv:
        print(overview(), file=sys.stderr)
        return USAGE
    return parse(argv).run()


def _is_unread() -> bool:
    """Whether the reader of stdout has seen enough, as `head` does; then no more is written. Other
    pipes can break, too; this one says so when it is asked for one line more."""
    try:
        print(flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


if __name__ == "__main__":
    sys.exit(main())
