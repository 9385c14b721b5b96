"""The example of a slave board in examples/slave, against the real driver on both links."""

import sys

from bms.pack import FRESH
from bms.protection import fault_ids as F
from fakes import Bench

sys.path.append(__file__.rsplit("/", 3)[0] + "/examples/slave")

from cell_link_slave import (  # noqa: E402
    ALARM,
    SCAN,
    UNADDRESSED,
    CellLinkSlave,
    UartFramer,
    crc8,
    crc16,
)

LINKS = ("can0", "uart0")


class ExampleBoard:
    """A board made of the example; what it measures and balances is in `mv`, `dc`, `masks`."""

    def __init__(self, node, cells=6, temps=2, serial=77, uart=False):
        self.mv = [3300 + i for i in range(cells)]
        self.dc = [210 + i for i in range(temps)]
        self.masks = []
        self.alive = True
        self.slave = CellLinkSlave(
            node, cells, temps, serial, lambda: (self.mv, self.dc), self.masks.append, uart
        )
        self.clock = None

    def receive(self, frame, _medium):
        if not self.alive:
            return []
        return self.slave.receive(frame[0], frame[1], self.clock.total_ms)


def _bench(link, boards, **more):
    uart = link == "uart0"
    boards = [ExampleBoard(node, uart=uart) if isinstance(node, int) else node for node in boards]
    b = Bench(slaves=len(boards), cells=6, temps=2, link=link, boards=boards, **more)
    for board in boards:
        board.clock = b.board.clock
    return b


def test_checksums():
    assert crc8(b"123456789") == 0x4B  # the check values of the two in catalogues of CRCs
    assert crc16(b"123456789") == 0x29B1


def test_the_driver_reads_what_the_board_measures():
    for link in LINKS:
        b = _bench(link, [1, 2])
        b.boards[1].mv = [3000, 0, 8190, 3456, 3457, None]
        b.boards[1].dc = [-400, 655]
        b.greet()
        b.scan()
        p = b.pack
        assert list(p.cell_mv)[:11] == [3300, 3301, 3302, 3303, 3304, 3305] + b.boards[1].mv[:5]
        assert [f & FRESH for f in p.cell_flags] == [FRESH] * 11 + [0]
        assert list(p.temp_dc) == [210, 211, -400, 655]
        assert list(p.stack_mv) == [19810, 18100]
        d = b.driver
        assert (d.damaged, d.stale, d.unexpected, d.repeated) == (0, 0, 0, 0)


def test_a_good_board_causes_no_trip_in_a_hundred_scans():
    for link in LINKS:
        b = _bench(link, [1, 2]).greet()
        for i in range(100):
            b.boards[0].mv = [3300 + i] * 6
            b.scan()
        assert b.parts.trips() == []
        assert b.driver.missed == 0


def test_it_balances_what_it_is_commanded_and_stops_when_nobody_speaks():
    for link in LINKS:
        b = _bench(link, [1]).greet()
        board = b.boards[0]
        b.pack.balance_mask[0] = 0b101
        b.scan()
        assert board.masks[-1] == 0b101
        board.slave.tick(b.board.clock.total_ms + 4000)
        assert board.masks[-1] == 0b101
        board.slave.tick(b.board.clock.total_ms + 6000)
        assert board.masks[-1] == 0


def test_it_pauses_balancing_while_it_measures():
    b = _bench("can0", [1]).greet()
    board = b.boards[0]
    b.pack.balance_mask[0] = 3
    b.scan()
    on = []
    board.slave.measure = lambda: (on.append(board.masks[-1]) or board.mv, board.dc)
    b.scan()
    assert on == [0]
    assert board.masks[-1] == 3


def test_a_board_without_a_node_gets_one_by_its_serial_number():
    for link in LINKS:
        board = ExampleBoard(UNADDRESSED, serial=4711, uart=link == "uart0")
        b = _bench(link, [board], slave="serial = 4711")
        assert board.receive((SCAN << 6, b"\x01\x01"), "can") == []
        assert board.slave.receive(3 << 6 | UNADDRESSED, b"", 0)[0][0] == 3 << 6 | UNADDRESSED
        assert board.slave.answer_delay_us == 4711 % 64 * 300
        b.greet()
        assert board.slave.node == 1
        assert b.parts.trips() == []


def test_its_alarm_trips_and_ends():
    for link in LINKS:
        b = _bench(link, [1]).greet()
        slave = b.boards[0].slave
        slave.faults = 0x01
        slave.worst_cell = 2
        for frame in slave.tick(b.board.clock.total_ms):
            assert frame[0] == ALARM << 6 | 1
            b.wire.give(frame)
        assert slave.tick(b.board.clock.total_ms + 99) == []
        b.step()
        if link == "uart0":
            b.scan()
        assert b.parts.trips() == ["slave_alarm"]
        slave.faults = 0
        for _ in range(8):
            b.scan()
        assert not b.parts.active(F.SLAVE_ALARM)


def test_a_restart_is_noticed():
    b = _bench("can0", [1]).greet()
    slave = b.boards[0].slave
    for frame in slave.boot():
        b.wire.give(frame)
    b.step()
    assert b.faults.count[F.SLAVE_REBOOT] == 1
    assert CellLinkSlave(1, 6, 2, 5, None, None, uart=True).boot() == []


def test_damaged_commands_are_not_obeyed():
    b = _bench("can0", [1]).greet()
    board = b.boards[0]
    good = bytes([1, 0, 0, 0, 5, 0, 0])
    ident = 2 << 6 | 1
    check = crc8(bytes([ident >> 8, ident & 255]) + good)
    before = len(board.masks)
    for bad in (good + bytes([check ^ 1]), good, b""):
        assert board.receive((ident, bad), "can") == []
    assert len(board.masks) == before
    board.receive((ident, good + bytes([check])), "can")
    assert board.masks[-1] == 1


def test_bytes_of_a_uart():
    framer = UartFramer()
    line = framer.encode(0x201, b"\x00\x01\x00\xff") + framer.encode(0x041, b"")
    got = []
    for i in range(len(line)):
        got += framer.feed(line[i : i + 1])
    assert got == [(0x201, b"\x00\x01\x00\xff"), (0x041, b"")]
    for i in range(len(line)):
        for bit in range(8):
            broken = bytearray(line)
            broken[i] ^= 1 << bit
            assert len(UartFramer().feed(bytes(broken))) < 2
    assert UartFramer().feed(b"\x05\x01\x00\xff\x00\x00") == []
