"""Names of all settings that are numbers, in the order of `Config.values`: [limits] first.

`bmsctl flash` replaces this module by one with the finished texts; elsewhere they are made here.
"""

from bms.config import schema


def _of(limits):
    return [
        schema.attribute(row[1], row[2])
        for row in schema.SETTINGS
        if (row[0] == "limits") == limits and row[2] != "text"
    ]


LIMITS = len(_of(True))  # number of settings in [limits]
NAMES = " ".join(_of(True) + _of(False)).encode()
