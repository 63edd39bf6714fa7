"""Puts the fake world within reach of the tests of server and clients."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
