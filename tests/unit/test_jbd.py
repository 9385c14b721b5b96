"""The JBD driver against a scripted board: asks, waits, survives, judges on arrival."""

from array import array

import micropython

from bms.slaves import jbd

CELLS = bytes.fromhex("dd0400080f230f1c0f120f1dff4e77")
BASIC = bytes.fromhex("dd03001d060b000001ed01f400002c7c00000000100080630204030ba00b9d0b98fa5577")


def reply(register, data, status=0):
    check = (0x10000 - (status + len(data) + sum(data))) & 0xFFFF
    head = bytes([0xDD, register, status, len(data)])
    return head + data + bytes([check >> 8, check & 0xFF, 0x77])


class Port:
    """A serial port: what the driver wrote, and what the board's side puts there."""

    def __init__(self):
        self.asked = []
        self.data = b""
        self.quiet = bytearray(8)
        self.locked = False

    def read(self, buf):
        if self.locked or not self.data:
            return 0
        n = min(len(buf), len(self.data))
        buf[:n] = self.data[:n]
        self.data = self.data[n:]
        return n

    def write(self, buf, start, n):
        assert start >= 0 and n > 0 and start + n <= len(buf)
        if not self.locked:
            self.asked.append(bytes(buf[start : start + n]))
        return n


class Limits:
    def __init__(self):
        self.seen = []

    def hard_cell(self, cell, mv):
        self.seen.append((cell, mv))

    def hard_temp(self, temp, dc):
        self.seen.append((temp, dc))


class Faults:
    def __init__(self):
        self.on = []

    def raised(self, code, place, value):
        if code not in self.on:
            self.on.append(code)

    def gone(self, code, place=-1):
        if code in self.on:
            self.on.remove(code)


class Config:
    cell_hard_min_mv = 2500
    cell_hard_max_mv = 4300
    temp_hard_max_dc = 700


class Pack:
    def __init__(self, cells, temps):
        self.slave_cells = bytes([cells])
        self.slave_temps = bytes([temps])
        self.first_cell = array("h", [0])
        self.first_temp = array("h", [0])
        self.known = bytearray(1)
        self.cell_mv = array("h", [0] * cells)
        self.cell_flags = bytearray(cells)
        self.cell_at = array("i", [0] * cells)
        self.temp_dc = array("h", [0] * temps)
        self.temp_flags = bytearray(temps)
        self.temp_at = array("i", [0] * temps)
        self.stack_mv = array("i", [0])
        self.stack_ok = bytearray(1)
        self.stack_at = array("i", [0])
        self.slave_flags = array("H", [0])


class Bench:
    def __init__(self, cells=4, temps=3):
        self.port = Port()
        self.pack = Pack(cells, temps)
        self.limits = Limits()
        self.faults = Faults()
        link = jbd.JbdLink(self.port)
        self.driver = jbd.Jbd(link, [0], self.pack, self.limits, self.faults, Config)
        self.now = 1000

    def answer(self, data, after=10):
        self.port.data += data
        self.now += after
        self.driver.step(self.now)

    def scan(self, cells=CELLS, basic=BASIC):
        self.driver.begin(1, self.now)
        self.answer(cells)
        self.now += 25
        self.driver.step(self.now)
        self.answer(basic)


def test_asks_for_cells_then_for_the_rest_with_the_documented_bytes():
    b = Bench()
    b.scan()
    assert b.port.asked == [bytes.fromhex("DDA50400FFFC77"), bytes.fromhex("DDA50300FFFD77")]
    assert b.driver.done


def test_a_board_is_known_when_cells_and_sensors_fit_and_read_from_then_on():
    b = Bench()
    b.scan()
    assert b.pack.known[0] == 1
    assert list(b.pack.cell_flags) == [0] * 4  # not before it is known
    b.scan()
    assert list(b.pack.cell_mv) == [3875, 3868, 3858, 3869]
    assert all(f & 1 for f in b.pack.cell_flags)
    assert list(b.pack.temp_dc) == [245, 242, 237]
    assert b.pack.stack_mv[0] == 15470 and b.pack.stack_ok[0] == 1
    assert b.limits.seen == []


def test_other_counts_than_configured_are_a_fault_when_said_twice():
    b = Bench(cells=5)
    b.scan()
    assert b.faults.on == []
    b.scan()
    assert len(b.faults.on) == 1
    assert b.pack.known[0] == 0
    assert list(b.pack.cell_flags) == [0] * 5


def test_a_cell_out_of_its_hard_bounds_is_judged_as_it_arrives():
    b = Bench()
    b.scan()
    b.driver.begin(2, b.now)
    b.answer(reply(4, bytes.fromhex("0F230F1C00001200")))
    assert b.limits.seen == [(2, 0), (3, 4608)]  # a zero is a measured zero
    b.answer(b"")


def test_an_open_sensor_leaves_no_reading():
    b = Bench()
    b.scan()
    b.scan()
    b.pack.temp_flags[1] = 0
    data = bytearray(BASIC[4:-3])
    data[25] = data[26] = 0
    b.scan(basic=reply(3, bytes(data)))
    assert b.pack.temp_flags[1] == 0
    assert b.pack.temp_flags[2] & 1


def test_protection_bits_raise_the_slave_s_alarm_but_the_fet_lock_does_not():
    b = Bench()
    b.scan()
    assert b.driver.protection == 0x1000 and b.faults.on == []
    data = bytearray(BASIC[4:-3])
    data[17] = 0x01
    b.scan(basic=reply(3, bytes(data)))
    assert len(b.faults.on) == 1
    b.now += 4000
    b.scan()
    assert b.faults.on == []


def test_silence_is_asked_again_once_and_then_given_up():
    b = Bench()
    b.driver.begin(1, b.now)
    for _ in range(4):
        b.now += 301
        b.driver.step(b.now)
    assert len(b.port.asked) == 2
    assert b.driver.done and b.driver.missed == 1


def test_wrong_register_error_status_echo_and_garbage():
    b = Bench()
    b.scan()
    b.driver.begin(2, b.now)
    b.answer(b.port.asked[-1])  # our own request heard again
    assert b.driver.link.echoes == 1
    b.answer(BASIC)  # not what was asked
    assert b.driver.strange == 1 and not b.driver.done
    b.answer(reply(4, b"", 0x80))
    assert b.driver.refused == 1
    b.answer(b"\xdd\x04\x00\xff" + b"\x00" * 20 + CELLS[:7])  # a false front, half a reply
    b.answer(CELLS[7:])
    assert b.pack.cell_flags[0] & 1
    b.answer(CELLS)  # nobody asked for it now
    assert b.driver.strange == 2


def test_a_reply_comes_in_any_pieces():
    for n in range(1, len(CELLS)):
        b = Bench()
        b.scan()
        b.driver.begin(2, b.now)
        b.answer(CELLS[:n])
        assert b.pack.cell_flags[0] == 0
        b.answer(CELLS[n:])
        assert list(b.pack.cell_mv) == [3875, 3868, 3858, 3869]


def test_a_damaged_reply_is_no_reading():
    for at in range(len(CELLS)):
        b = Bench()
        b.scan()
        b.driver.begin(2, b.now)
        b.answer(CELLS[:at] + bytes([CELLS[at] ^ 4]) + CELLS[at + 1 :])
        assert list(b.pack.cell_flags) == [0] * 4, at


def test_endless_garbage_is_survived():
    b = Bench()
    b.driver.begin(1, b.now)
    for i in range(50):
        b.answer(bytes([0xDD, i, 0, 255, i, 0x77]) * 9)
    b.scan()
    b.scan()
    assert b.pack.known[0] == 1


def test_the_cycle_does_not_allocate():
    if not hasattr(micropython, "heap_lock"):
        return  # CPython has no lock
    b = Bench()
    b.scan()
    b.scan()
    views = []
    for data in (CELLS, BASIC):
        views.append((data, len(data)))

    class Locked:
        def __init__(self):
            self.turn = 0
            self.give = False

        def read(self, buf):
            if not self.give:
                return 0
            self.give = False
            data, n = views[self.turn]
            self.turn ^= 1
            for i in range(n):
                buf[i] = data[i]
            return n

        def write(self, buf, start, n):
            self.give = True
            return n

    port = Locked()
    driver = b.driver
    driver.link._stream = port
    now = b.now
    micropython.heap_lock()
    try:
        for _ in range(200):
            driver.begin(3, now)
            for _ in range(8):
                now += 10
                driver.step(now)
    finally:
        micropython.heap_unlock()
    assert driver.done
    assert driver.link.damaged == 0
    assert driver.link.rx >= 400
