"""Names of all settings that are numbers, in the order of `Config.values`: [limits] first.

On a board `bmsctl flash` has put the texts here; elsewhere they are taken from the table.
"""

from bms.config import schema as _config


def _of(limits):
    return [
        _config.attribute(row[1], row[2])
        for row in _config.SETTINGS
        if (row[0] == "limits") == limits and row[2] != "text"
    ]


LIMITS = len(_of(True))  # so many are of [limits]
NAMES = " ".join(_of(True) + _of(False)).encode()
