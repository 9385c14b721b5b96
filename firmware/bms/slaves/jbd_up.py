"""Driver of JBD-UP rack units (UP16S010, UP16S020, ..) on RS-485, by the addresses set in them.

Source: no vendor document; two public analyses of the vendor's tool, and captures of two units on
one line, agree except for what is named below. Big-endian. Poll `address 78 1000 10A0 0000 crc`;
the answer has the same head with the length of its data, the data, and CRC-16/Modbus, low byte
first. Units: cells mV; temperatures 0.1 degC above -50 degC; stack voltage 10 mV; current 10 mA
around 300000, + = charge; charge 10 mAh. The MOSFETs' sensor stands for the board's temperature.
A unit balances by itself. Its FETs can be commanded by function 79 only after an unlocking that no
source shows completely: that is not built, so `fets` is refused. Uncertain: the rate (9600 by most,
one says 19200: `rate` in [[link]]); gap and answer time (`gap`, `answer`); which of the two words
behind the temperatures names the cells that are balanced: any bit of either counts; the highest
address. Temperatures at which it only forbids charging warn: its open charge FET limits the power.
"""

from micropython import const

from bms.pack import ALONE
from bms.slaves import base
from bms.slaves.commercial import NO_SENSOR_DC, word
from bms.slaves.fields import U16, U32, read_fields, take_cells, take_temps
from bms.slaves.frames import CRC16_MODBUS, Framed, FrameLink

_HEAD = const(8)  # bytes before the data
_READ = const(0x78)
_FRAME = const(10)  # with the CRC
_CELLS_AT = const(66)
_MOS_AT = const(16)
_WARNINGS_AT = const(28)
_FETS_AT = const(33)
_DISCHARGE_FET = const(1)
_CHARGE_FET = const(2)
_ZERO_DC = const(500)


class JbdUpLink(FrameLink):
    """See `FrameLink`."""

    # length field, places and check; then what is known: address, 78, 10 00, 10 A0
    TABLE = bytes(
        (0, 6, 2, _FRAME, 0, 1, _HEAD, 2, CRC16_MODBUS, 0, 2, 2)
        + (0, 1, 16, 1, _READ, _READ, 2, 0x10, 0x10, 3, 0, 0, 4, 0x10, 0x10, 5, 0xA0, 0xA0)
    )


class JbdUp(Framed):
    """All JBD-UP units of one line; see `Framed`. FIELDS: of the unit that answered last.

    protection: the low 16 bits; balance: 1 where any cell is balanced.
    """

    REPORTS = ALONE
    NODES = (1, 16)
    MOST = 16
    GAP_MS = 50
    ANSWER_MS = 300
    TYPICAL_MS = 50
    LONGEST = 260
    frame = JbdUpLink
    POLLS = (("status", _READ, 140, 2, 2),)
    STEPS = len(POLLS)
    FIELDS = (
        ("current_ma", 4, U32, 300000, 10),
        ("soc_pm", 8, U16, 0, -10),
        ("remaining_mah", 10, U16, 0, 10),
        ("nominal_mah", 12, U16, 0, 10),
        ("health_pm", 22, U16, 0, 10),
        ("protection", 26, U16, 0, 1),
        ("cycles", 36, U16, 0, 1),
    )
    ALARMS_AT = 27
    ALARMS_STEP = -1
    ALARMS = (
        b"H cell_overvoltage\n"
        b"L cell_undervoltage\n"
        b"H pack_overvoltage\n"
        b"L pack_undervoltage\n"
        b"C charge_overcurrent_1\n"
        b"C charge_overcurrent_2\n"
        b"C discharge_overcurrent_1\n"
        b"C discharge_overcurrent_2\n"
        b"t charge_overtemperature\n"
        b"f charge_undertemperature\n"
        b"T discharge_overtemperature\n"
        b"F discharge_undertemperature\n"
        b"T mos_overtemperature\n"
        b"T ambient_overtemperature\n"
        b"F ambient_undertemperature\n"
        b"o cells_apart\n"
        b"o temps_apart\n"
        b"o soc_low\n"
        b"S short_circuit\n"
        b"D cell_offline\n"
        b"D temp_drop\n"
        b"D charge_mos\n"
        b"D discharge_mos\n"
        b"d current_limiter\n"
        b"O aerosol\n"  # its fire suppression
        b"- full\n"  # charged to the end: its FETs show what it did
        b"D afe\n"
    )

    def __init__(self, link, members, pack, limits, faults, config):
        super().__init__(link, members, pack, limits, faults, config)
        self.balance = -1

    def send_poll(self, m, step):
        """Registers 1000 to 10A0: everything."""
        out = self.link.out
        out[0] = self._node[m]
        out[1] = _READ
        out[2] = out[4] = 0x10
        out[5] = 0xA0
        out[3] = out[6] = out[7] = 0
        return self.link.send_checked(_FRAME)

    def counts(self, command, at, n):
        """See `Framed.counts`."""
        data = self.link.data
        if n < _CELLS_AT + 4:
            return -1
        cells = word(data, at + _CELLS_AT)
        temps_at = _CELLS_AT + 2 + 2 * cells
        if temps_at + 2 > n:
            return -1
        temps = word(data, at + temps_at)
        return cells | temps << 8 if temps_at + 6 + 2 * temps <= n else -1

    def take(self, m, command, at, n, now):
        """See `Framed.take`."""
        counts = self.counts(command, at, n)
        if counts < 0:
            return False
        data = self.link.data
        read_fields(self, self.FIELDS, data, at)
        warns = word(data, at + _WARNINGS_AT) or word(data, at + _WARNINGS_AT + 2)
        self.take_alarms(m, at, now, base.A_OTHER if warns else 0)
        cells = counts & 0xFF
        temps_at = at + _CELLS_AT + 2 + 2 * cells
        end = temps_at + 2 + 2 * (counts >> 8)
        self.balance = 1 if word(data, end) or word(data, end + 2) else 0
        if self.fit_counts(m, 1, counts):
            fets = data[at + _FETS_AT]
            self.switches(m, fets & _CHARGE_FET, fets & _DISCHARGE_FET)
            take_cells(self, m, at + _CELLS_AT + 2, cells, now, self.balance != 0)
            take_temps(self, m, temps_at + 2, _ZERO_DC, now)
            mos_dc = word(data, at + _MOS_AT) - _ZERO_DC
            if NO_SENSOR_DC < mos_dc < self.MOST_DC:
                self.board(m, word(data, at) * 10, mos_dc, now)
        return True
