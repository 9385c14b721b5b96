"""Raspberry Pi Pico 2: README.md has the pins and the wiring."""

from pico import PicoBoard


class Board(PicoBoard):
    """See `pico`."""

    NAME = "RPI_PICO2"
