"""A pack file as `bmsctl` has read and checked it: what a board starts with instead of parsing it.

A line of JSON in PATH.ready, behind it the checksum that pack files have (`packfile`). It counts
where it was made from the very bytes of the pack file, by the reader that belongs to this firmware;
else the pack file itself is read. Needed at start only.
"""

import json
from array import array

from bms.config import pack_file
from bms.config.settings import Config, LinkConfig, SensorConfig, SlaveConfig

SCHEMA = 0  # CRC-32 of the reader; `bmsctl` puts it here, 0: nothing is ready


def load(path, schema=SCHEMA):
    """The `Config` that `config.load` would give; None where that must read the pack file.

    Raises ConfigError where the pack file is damaged.
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
    """Objects of one kind: fields by name, then for each table [boards, its lines, values]."""
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
