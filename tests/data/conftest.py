"""Puts the odd videos within reach of the tests of data."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
