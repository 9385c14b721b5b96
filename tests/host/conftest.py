"""A board on a real pseudo-terminal, and `bmsctl` as a process of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from terminal import Board, Tool


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    """A board that is plugged in."""
    board = Board(tmp_path / "ttyACM0")
    yield board
    board.close()


@pytest.fixture
def bmsctl(tmp_path: Path) -> Iterator[Tool]:
    """`bmsctl` in an empty folder."""
    tool = Tool(tmp_path)
    yield tool
    tool.close()
