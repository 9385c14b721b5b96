"""Loads the values of a pack file as `bmsctl` has read and checked them: saves parsing on a board.

PATH.ready holds one line of JSON and a checksum line, as pack files have it (`pack_file`). It is
used only if it was made from the same bytes of the pack file, and by the reader of this firmware;
else the pack file itself is read. Needed at start only.
"""

import json
from array import array

from bms.config import pack_file
from bms.config.settings import Config, LinkConfig, SensorConfig, SlaveConfig

SCHEMA = 0  # CRC-32 of the reader; `bmsctl` sets it when it compiles; 0: PATH.ready is not used


def load(path, schema=SCHEMA):
    """The `Config` that `pack_file.load` would return; None if PATH.ready can't be used.

    Raises ConfigError if pack file and copy are damaged.
    """
    if not schema or pack_file.state(path + pack_file.READY) != pack_file.WHOLE:
        return None
    chosen, damaged, mark = pack_file.chosen(path)
    with open(path + pack_file.READY, "rb") as f:
        found = json.loads(f.readline())
    if found["schema"] != schema or found["of"].encode() != mark:
        return None
    config = Config()
    config.values = array("i", found["values"])
    config.crc = found["crc"]
    config.chemistry = found["chemistry"]
    config.beyond = found["beyond"]
    config.path = chosen
    config.damaged = damaged
    config.slaves = _tables(SlaveConfig, found["slaves"])
    config.links = _tables(LinkConfig, found["links"])
    config.sensors = _tables(SensorConfig, found["sensors"])
    return config


def _tables(cls, found):
    """Objects of class `cls`: found["fields"] names, for each table [boards, lines, values]."""
    out = []
    for boards, at, values in found["tables"]:
        for i in range(boards):
            one = cls()
            for name, value in zip(found["fields"], values):
                setattr(one, name, value)
            if boards > 1:
                one.node += i
            one.at = at
            out.append(one)
    return out
