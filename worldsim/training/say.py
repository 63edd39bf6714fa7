"""What a run tells the person who started it."""

import sys


def say(line: str) -> None:
    """A line for people: stderr, at once."""
    print(line, file=sys.stderr, flush=True)
