"""Captured bytes through the firmware's own drivers, one file per kind of slave board.

A module has `decode(capture) -> Decoded`; where `find` is there as well, `bmsctl scan` uses it in
place of asking each node in turn.
"""

from importlib import import_module
from types import ModuleType

# every kind that can be decoded
NAMES = (
    "bmw_i3",
    "bq796xx",
    "cell_link",
    "daly",
    "diybms",
    "jbd",
    "jbd_up",
    "jk_can",
    "jk_pb",
    "jk_ttl",
    "outlander",
    "pylontech",
    "tesla_s",
)


def decoder(kind: str) -> ModuleType:
    """The module of a kind."""
    return import_module(f".{kind}", __package__)
