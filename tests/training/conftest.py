"""Puts the smallest stage, and the odd videos, within reach of the tests of training."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "data")]
