"""Faults latch with their first cause, and clear only by a command."""

from bms.clock import Clock
from bms.protection import fault_catalog, fault_ids
from bms.protection import faults as F
from bms.protection import limits as L
from bms.protection.fault_catalog import QUANTITIES, SINGLE, by_quantity, table
from fakes import FakeClock, fault_name, raises, warning

TRIP = fault_ids.CELL_HIGH
OTHER = fault_ids.TEMP_HIGH
LAST = fault_ids.SLAVE_ALARM
WARN = warning(fault_ids.CELL_SPREAD)


class Pack:
    strings = 1


class Opener:
    def __init__(self):
        self.trips = 0

    def trip(self, scope):
        self.trips += 1


def _faults():
    hal = FakeClock()
    clock = Clock(hal)
    faults = F.Faults(clock, Pack)
    opener = Opener()
    faults.set_open_target(opener)
    return faults, opener, hal, clock


def _events(f):
    out = []
    while f.read < f.events:
        i = f.read % len(f.event_slot)
        out.append((f.event_change[i], f.event_slot[i], f.event_place[i], f.event_value[i]))
        f.read += 1
    return out


def test_every_fault_has_one_row_with_its_name_and_a_code_of_its_own():
    rows = table()
    assert len(set([row[0] for row in rows])) == len(rows)
    assert len(set([row[1] for row in rows])) == len(rows)
    numbers = [row[0] for row in QUANTITIES]
    assert sorted(numbers) == list(range(fault_ids.TRIP, fault_ids.LEVELLED + fault_ids.TRIP, 3))
    numbers = [row[0] for row in SINGLE]
    assert sorted(numbers) == list(
        range(fault_ids.LEVELLED + 1, fault_ids.LEVELLED + 1 + len(SINGLE))
    )
    f, _, _, _ = _faults()
    assert f.rows == len(rows) + 1
    assert fault_name(f, 0) == ""
    for i in range(1, f.rows):
        code, name, level, place = rows[i - 1][:4]
        assert level in (fault_ids.WARN, fault_ids.DERATE, fault_ids.TRIP)
        assert fault_name(f, i) == name
        assert (f.code[i], f.level[i], f.kind[i]) == (code, level, place)
        if i > fault_ids.LEVELLED or level == fault_ids.TRIP:
            # the name of the constant in the row is the fault's own
            assert getattr(fault_ids, name.upper()) == i, name


def test_a_fault_without_a_row_ends_the_start():
    for table_, name in ((QUANTITIES, "QUANTITIES"), (SINGLE, "SINGLE")):
        for i in (0, 7, len(table_) - 1):
            setattr(fault_catalog, name, table_[:i] + table_[i + 1 :])
            try:
                raises(ValueError, _faults)
            finally:
                setattr(fault_catalog, name, table_)
    _faults()


def test_the_order_of_rows_has_no_meaning():
    rows = by_quantity()
    assert sorted([row[2] for row in rows]) == sorted([row[2] for row in QUANTITIES])
    for q in range(fault_ids.QUANTITIES):
        for level in (fault_ids.WARN, fault_ids.DERATE, fault_ids.TRIP):
            assert fault_ids.quantity_of(fault_ids.level_fault(q, level)) == q
        assert rows[q][0] == fault_ids.level_fault(q, fault_ids.TRIP)


def test_quantities_that_slaves_bring_come_first():
    # `limits` keeps those of each slave in arrays of their own, which begin with these
    names = [row[2] for row in by_quantity()]
    kinds = [row[3] for row in by_quantity()]
    assert kinds[: L.BOARD + 1] == [fault_ids.CELL] * 3 + [fault_ids.TEMP] * 5 + [fault_ids.SLAVE]
    assert names[L.CHARGE : L.PACK_DISCHARGE + 1] == [
        "charge_current",
        "discharge_current",
        "charge_peak",
        "discharge_peak",
        "pack_charge",
        "pack_discharge",
    ]
    assert names[L.VOLTAGE_MAX : L.VOLTAGE_DIFFERS] == ["voltage_high", "voltage_low"]
    assert getattr(L, "_OWN", L.BOARD + 1) == L.BOARD + 1  # vanishes under MicroPython


def test_a_trip_opens_and_latches_with_its_cause():
    f, opener, hal, clock = _faults()
    hal.pass_ms(12345)
    clock.tick()
    f.set(TRIP, 7, 3700)
    assert opener.trips == 1
    assert (f.trips, f.first) == (1, TRIP)
    hal.pass_ms(1000)
    clock.tick()
    f.set(TRIP, 8, 3800)  # the same condition: nothing new
    f.clear(TRIP)
    f.set(TRIP, 9, 3900)  # again before a person saw it: the first cause stays
    assert (f.place[TRIP], f.value[TRIP]) == (7, 3700)
    assert (f.at_s[TRIP], f.at_ms[TRIP]) == (12, 345)
    assert opener.trips == 2
    assert f.trips == 1
    assert _events(f) == [(fault_ids.SET, TRIP, 7, 3700)]


def test_a_warning_neither_opens_nor_latches():
    f, opener, _, _ = _faults()
    f.set(WARN, 1, 400)
    assert (opener.trips, f.trips, f.first, f.latched[WARN]) == (0, 0, 0, 0)
    f.clear(WARN)
    f.clear(WARN)
    f.set(WARN, 2, 500)
    assert f.count[WARN] == 2
    assert _events(f) == [
        (fault_ids.SET, WARN, 1, 400),
        (fault_ids.CLEAR, WARN, 1, 400),
        (fault_ids.SET, WARN, 2, 500),
    ]


def test_acknowledge_only_what_is_gone():
    f, _, _, _ = _faults()
    f.set(TRIP, 1, 1)
    f.set(OTHER, 2, 2)
    assert f.acknowledge() == 2
    assert (f.first, f.trips) == (TRIP, 2)
    f.clear(TRIP)
    assert f.latched[TRIP]
    assert f.acknowledge() == 1
    # it is acknowledged, and stays the cause of what is left
    assert (f.first, f.latched[TRIP], f.latched[OTHER]) == (TRIP, 0, 1)
    f.set(LAST, 0, 0)
    assert f.first == TRIP
    f.clear(LAST)
    f.clear(OTHER)
    assert f.acknowledge() == 0
    assert (f.first, f.trips) == (0, 0)
    f.set(TRIP, 5, 5)  # a new cause
    assert (f.place[TRIP], f.count[TRIP], f.trips) == (5, 2, 1)


def test_the_first_cause_stays_first():
    f, _, _, _ = _faults()
    f.set(OTHER, 0, 0)
    f.set(TRIP, 0, 0)
    assert f.first == OTHER


def test_events_that_nobody_reads_are_counted():
    f, _, _, _ = _faults()
    for i in range(40):
        f.set(WARN, i, i)
        f.clear(WARN)
    assert f.events == 80
    assert f.lost_events == 80 - len(f.event_slot)
    events = _events(f)
    assert len(events) == len(f.event_slot)
    assert events[-1] == (fault_ids.CLEAR, WARN, 39, 39)
    assert events[0][2] == 40 - len(f.event_slot) // 2
    f.set(TRIP, 3, 4)
    assert _events(f) == [(fault_ids.SET, TRIP, 3, 4)]
    assert f.lost_events == 80 - len(f.event_slot)
