"""The kinds of slave boards that can be simulated: `KIND` of the module named like each kind."""

from importlib import import_module

from bms.slaves import build as slaves

from .cell_link import CellLinkBoard
from .commercial import CommercialBoard
from .kind import Kind

KINDS: dict[str, Kind] = {
    name: import_module(f".{name}", __package__).KIND for name in slaves.KINDS
}

Board = CellLinkBoard | CommercialBoard
