"""Faults latch with their first cause, and go only when a person says so."""

from bms import faults as F
from bms.clock import Clock
from bms.fault_table import LEVELS, TABLE
from fakes import FakeClock

TRIP = F.CELL_HIGH
OTHER = F.TEMP_HIGH
WARN = F.CELL_SPREAD_WARNING


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
    faults.opens(opener)
    return faults, opener, hal, clock


def _events(f):
    out = []
    while f.read < f.events:
        i = f.read % len(f.event_slot)
        out.append((f.event_change[i], f.event_slot[i], f.event_place[i], f.event_value[i]))
        f.read += 1
    return out


def test_every_row_has_its_name_and_a_code_of_its_own():
    assert len(set([row[0] for row in TABLE])) == len(TABLE)
    assert len(set([row[1] for row in TABLE])) == len(TABLE)
    assert len(LEVELS) * 3 == F.LEVELLED
    f, _, _, _ = _faults()
    for i in range(len(TABLE)):
        name, level = TABLE[i][1:3]
        assert level in (F.WARN, F.DERATE, F.TRIP)
        assert f.names[i + 1] + f.suffix(i + 1) == name.encode()
        if i >= F.LEVELLED or level == F.TRIP:
            assert getattr(F, name.upper()) == i + 1, name


def test_a_trip_opens_and_latches_with_its_cause():
    f, opener, hal, clock = _faults()
    hal.pass_ms(12345)
    clock.tick()
    f.raised(TRIP, 7, 3700)
    assert opener.trips == 1
    assert (f.trips, f.first) == (1, TRIP)
    hal.pass_ms(1000)
    clock.tick()
    f.raised(TRIP, 8, 3800)  # the same condition: nothing new
    f.gone(TRIP)
    f.raised(TRIP, 9, 3900)  # again before a person saw it: the first cause stays
    assert (f.place[TRIP], f.value[TRIP]) == (7, 3700)
    assert (f.at_s[TRIP], f.at_ms[TRIP]) == (12, 345)
    assert opener.trips == 2
    assert f.trips == 1
    assert _events(f) == [(F.RAISED, TRIP, 7, 3700)]


def test_a_warning_neither_opens_nor_latches():
    f, opener, _, _ = _faults()
    f.raised(WARN, 1, 400)
    assert (opener.trips, f.trips, f.first, f.latched[WARN]) == (0, 0, 0, 0)
    f.gone(WARN)
    f.gone(WARN)
    f.raised(WARN, 2, 500)
    assert f.count[WARN] == 2
    assert _events(f) == [
        (F.RAISED, WARN, 1, 400),
        (F.GONE, WARN, 1, 400),
        (F.RAISED, WARN, 2, 500),
    ]


def test_acknowledge_only_what_is_gone():
    f, _, _, _ = _faults()
    f.raised(TRIP, 1, 1)
    f.raised(OTHER, 2, 2)
    assert f.acknowledge() == 2
    assert (f.first, f.trips) == (TRIP, 2)
    f.gone(TRIP)
    assert f.latched[TRIP]
    assert f.acknowledge() == 1
    assert (f.first, f.latched[TRIP], f.latched[OTHER]) == (OTHER, 0, 1)
    f.gone(OTHER)
    assert f.acknowledge() == 0
    assert (f.first, f.trips) == (0, 0)
    f.raised(TRIP, 5, 5)  # a new cause
    assert (f.place[TRIP], f.count[TRIP], f.trips) == (5, 2, 1)


def test_the_first_cause_stays_first():
    f, _, _, _ = _faults()
    f.raised(OTHER, 0, 0)
    f.raised(TRIP, 0, 0)
    assert f.first == OTHER


def test_events_that_nobody_reads_are_counted():
    f, _, _, _ = _faults()
    for i in range(40):
        f.raised(WARN, i, i)
        f.gone(WARN)
    assert f.events == 80
    assert f.lost_events == 80 - len(f.event_slot)
    events = _events(f)
    assert len(events) == len(f.event_slot)
    assert events[-1] == (F.GONE, WARN, 39, 39)
    assert events[0][2] == 40 - len(f.event_slot) // 2
    f.raised(TRIP, 3, 4)
    assert _events(f) == [(F.RAISED, TRIP, 3, 4)]
    assert f.lost_events == 80 - len(f.event_slot)
