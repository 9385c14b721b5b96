"""Classes that hold the values of a pack file; `pack_file.load` makes them.

A module of its own, so that a board can unload the reader: an object keeps the whole module of its
class in RAM.
"""

from array import array


class SlaveConfig:
    """One slave board of the pack file, fields as SLAVE_KEYS.

    line: number of the line where its table begins; at: line number of each key that is given.
    """

    kind: str
    link: str
    node: int
    cells: int
    temps: int
    temps_left_out: int  # bit 0 = the first one
    string: int
    serial: int
    fets: int
    reversed: int
    fets_inverted: int
    beta: int
    poll: str
    temp_offset: int
    line: int
    at: dict


class LinkConfig:
    """Settings of one port, fields as LINK_KEYS; line, at: as in SlaveConfig."""

    port: str
    rate_bps: int
    gap_ms: int
    answer_ms: int
    cell_age_ms: int
    temp_age_ms: int
    line: int
    at: dict


class SensorConfig:
    """One current sensor, fields as SENSOR_KEYS; line, at: as in SlaveConfig."""

    kind: str
    string: int
    link: str
    id: int
    address: int
    shunt_uohm: int
    channel: int
    range_ma: int
    zero_mv: int
    span_mv: int
    low_mv: int
    high_mv: int
    error_ma: int
    gain_ppm: int
    reversed: int
    line: int
    at: dict


class Config:
    """A valid pack file: every setting is an attribute, key + unit suffix, as `cell_max_mv`.

    slaves [SlaveConfig], links [LinkConfig], sensors [SensorConfig]; crc: CRC-16/CCITT-FALSE of the
    file without its checksum line; chemistry: 0 = LFP, 1 = NMC; beyond: number of settings outside
    the chemistry's absolute range; path of the file that was read; damaged: as `pack_file.choose`
    returns it; values: array('i') of all settings that are numbers, in the order of
    `setting_names.NAMES`. For a board, `config.cell_max_mv` is compiled to an index of it.
    """

    def __init__(self):
        self.slaves = []
        self.links = []
        self.sensors = []
        self.chemistry = 0
        self.beyond = 0
        self.values = array("i")
        self.crc = 0
        self.path = ""
        self.damaged = 0
        self._names = []

    def link_of(self, port):
        """The LinkConfig of a port; None if the file has none."""
        for link in self.links:
            if link.port == port:
                return link
        return None

    def number(self, name):
        """The value of a setting by its name. Allocates. Raises ValueError for an unknown name."""
        if not self._names:
            from bms.config.setting_names import NAMES

            self._names = NAMES.split(b" ")
        return self.values[self._names.index(name.encode())]

    def __getattr__(self, name) -> int:
        try:
            return self.number(name)
        except ValueError:
            raise AttributeError(name)
