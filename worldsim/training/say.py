"""What a run tells the person who started it."""

import os
import sys


def say(line: str) -> None:
    """A line for people: stderr, at once."""
    if os.environ.get("RANK", "0") == "0":  # of several processes the first one speaks
        print(line, file=sys.stderr, flush=True)
