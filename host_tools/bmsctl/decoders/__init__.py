"""Captured bytes through the firmware's own drivers.

A kind may have a module of its own here, with `decode(capture) -> Decoded`; where `find` is there
as well, `bmsctl scan` uses it instead of polling each node in turn. For the others `tables` reads
what the tables of their drivers say.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from bms.slaves.build import KINDS

from . import tables

# every kind that can be decoded
NAMES = tuple(sorted(KINDS))


def decoder(kind: str) -> Any:
    """The module of a kind, or what stands for it."""
    name = f".{kind}"
    if find_spec(name, __package__) is None:
        return tables.decoder(kind)
    return import_module(name, __package__)
