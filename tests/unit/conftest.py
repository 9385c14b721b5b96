"""Puts this folder on the path, so that the tests here find `fakes` as under MicroPython."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
