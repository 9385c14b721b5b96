"""What a pack file says, as the rest of the firmware holds it; `config` reads and checks it.

On its own, so that a board can forget the reader: an object keeps the whole module of its class.
"""

from array import array


class SlaveConfig:
    """One slave board of the pack file, fields as SLAVE_KEYS.

    line: where its table stands; at: the line of each key that is given.
    """

    kind: str
    link: str
    node: int
    cells: int
    temps: int
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
    """One port's settings of the pack file, fields as LINK_KEYS; line, at: as a slave's."""

    port: str
    rate_bps: int
    gap_ms: int
    answer_ms: int
    cell_age_ms: int
    temp_age_ms: int
    line: int
    at: dict


class SensorConfig:
    """One current sensor of the pack file, fields as SENSOR_KEYS; line, at: as a slave's."""

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
    gain_ppm: int
    reversed: int
    line: int
    at: dict


class Config:
    """A valid pack file: every setting as an attribute named key + unit suffix, as `cell_max_mv`.

    `slaves` [SlaveConfig], `links` [LinkConfig], `sensors` [SensorConfig], `crc` of the file's
    bytes (CRC-16/CCITT-FALSE) without its own last line, `chemistry` 0 = LFP, 1 = NMC; `beyond`:
    bounds outside the chemistry's absolute range; `path` of the file, `damaged` as
    `packfile.choose` says; `values`: an array('i') of all settings that are numbers, in the order
    of `setting_names.NAMES`. On a board `config.cell_max_mv` is compiled as a place in it.
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
        """The settings of a port, None = the file has none."""
        for link in self.links:
            if link.port == port:
                return link
        return None

    def number(self, name):
        """A setting by its name. Allocates. Raises ValueError where there is none."""
        if not self._names:
            from bms.config.setting_names import NAMES

            self._names = NAMES.split(b" ")
        return self.values[self._names.index(name.encode())]

    def __getattr__(self, name) -> int:
        try:
            return self.number(name)
        except ValueError:
            raise AttributeError(name)
