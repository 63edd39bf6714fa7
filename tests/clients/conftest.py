"""The same fake world as the server's tests, and no real window."""

import os
import sys
from pathlib import Path

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "server")]
