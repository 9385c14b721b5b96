"""Power limits: zero before a trip would come, in ramps, shared by strings; charge left."""

from bms.energy import power as P
from bms.energy import totals as S
from bms.energy.charge import OCV_MV, Charge
from bms.energy.power import CHARGE, DISCHARGE, PowerLimits
from bms.protection import fault_ids as F
from bms.storage.nvm_store import NvmStore
from fakes import Parts

SETTLED_MS = 33000  # after so long with a small current a voltage counts


class Pack(Parts):
    """Parts with a store in RAM, charge and power; `tick` is 20 ms of a master."""

    def __init__(self, **settings):
        Parts.__init__(self, **settings)
        self.store = NvmStore(self.config, None, self.clock)
        self.renew()
        self.board.pack_mv = 4 * 3300
        self.ready()

    def renew(self):
        self.soc = Charge(self.config, self.pack, self.currents, self.faults, self.store, self.now)
        self.power = PowerLimits(
            self.config,
            self.pack,
            self.faults,
            self.strings,
            self.limits,
            self.soc,
            self.now,
        )

    def tick(self, ms=20):
        self.step(ms)
        self.soc.step(self.now)
        self.power.step(self.now)

    def ticks(self, ms):
        for _ in range(ms // 20):
            self.tick()
        return self

    def closed(self):
        assert self.strings.close(self.now) is None
        self.ticks(3000)
        assert self.strings.count_closed == self.pack.strings
        return self.ticks(12000)

    def both(self):
        return self.power.charge_ma, self.power.discharge_ma


def test_nothing_while_open_and_all_of_it_when_all_is_well():
    p = Pack()
    p.ticks(1000)
    assert p.both() == (0, 0)
    p.closed()
    assert p.both() == (94000, 188000)  # below what warns
    assert (p.power.charge_mv, p.power.discharge_mv) == (4 * 3600, 4 * 2800)
    p.faults.set(F.CELL_LOST, 0, 0)
    p.tick()
    assert p.both() == (0, 0)


def test_it_rises_and_falls_in_ramps():
    p = Pack(power='ramp_up = "10 s"; ramp_down = "1 s"')
    p.strings.close(p.now)
    last = 0
    for _ in range(800):
        p.tick()
        ma = p.power.discharge_ma
        assert 0 <= ma - last <= 188000 * 80 // 10000 + 128
        last = ma
    assert last == 188000
    p.mv[0] = 2640  # nothing is left
    fell = []
    for _ in range(70):
        p.tick()
        assert p.power.discharge_ma <= last
        assert last - p.power.discharge_ma <= 188000 * 80 // 1000 + 128
        last = p.power.discharge_ma
        fell.append(last)
    assert last == 0


def test_a_limit_comes_back_by_the_room_that_cells_have():
    # 100 A less lets a cell of 1 mohm fall by 100 mV: a limit that came back at once would swing
    p = Pack().closed()
    p.mv = [3620] * 4
    p.ticks(3000)
    assert p.power.charge_ma == 0
    p.mv = [3598] * 4  # inside the last quarter of 20 mV below the warn bound
    p.ticks(60000)
    assert p.power.charge_ma == 0
    p.mv = [3570] * 4
    p.ticks(1000)
    slow = p.power.charge_ma
    p.ticks(1000)
    near = p.power.charge_ma - slow
    assert 1000 < near < 20000
    assert p.power.reason[CHARGE] == P.CELL
    p.mv = [3400] * 4
    p.ticks(3000)
    before = p.power.charge_ma
    p.ticks(1000)
    assert p.power.charge_ma - before > 2 * near  # as fast as ramp_up allows
    # and the same of a discharge, and of a string's voltage
    p = Pack(limits='voltage_max = "14.0 V"').closed()
    for mv, string_mv, room in ((2800, 11200, 0), (3300, 13795, 0), (3300, 13200, 1)):
        p.mv = [mv] * 4
        p.limits.string_mv[0] = string_mv
        p.ticks(2000)
        p.power._part[CHARGE] = p.power._part[DISCHARGE] = 0
        p.ticks(2000)
        held = p.power.discharge_ma if mv == 2800 else p.power.charge_ma
        assert bool(held) == bool(room), (mv, string_mv)


def test_a_limit_falls_before_a_rising_voltage_is_there():
    p = Pack().closed()
    for mv in range(3300, 3580):  # 8 mV a second, and a charger that follows 5 s late
        p.mv = [mv] * 4
        p.ticks(120)
    assert p.power.charge_ma < 94000
    assert p.power.discharge_ma == 188000
    p = Pack().closed()
    p.mv = [3580] * 4  # a load was switched off: no trend
    p.ticks(3000)
    assert p.power.charge_ma == 94000


def test_while_open_the_charge_limit_does_not_wait_at_its_full_value_near_the_end():
    p = Pack()
    p.mv = [3570] * 4
    p.board.pack_mv = 4 * 3570
    p.ticks(60000)
    p.closed()
    assert 0 < p.power.charge_ma < 94000


def _limits(change):
    p = Pack().closed()
    change(p)
    for _ in range(10):
        for current in p.currents:
            current.sample(0, p.now)
        p.scan()
    p.ticks(3000)
    return p


def _cells(low, high=None):
    def change(p):
        p.mv = [low] * 4
        p.mv[2] = high or low

    return change


def test_cell_voltages():
    for mv, charge in ((3600, 94000), (3610, 47000), (3619, 4700), (3620, 0), (3645, 0)):
        p = _limits(_cells(mv))
        assert p.power.charge_ma == charge, mv
        assert p.power.discharge_ma > 0
    for mv, discharge in ((2800, 188000), (2725, 94000), (2650, 0), (2510, 0)):
        p = _limits(_cells(mv))
        assert p.power.discharge_ma == discharge, mv
        assert p.power.charge_ma > 0
        if discharge < 188000:
            assert p.power.reason[DISCHARGE] == P.CELL
    # the highest cell decides, wherever it is
    assert _limits(_cells(3400, 3620)).power.charge_ma == 0


def test_temperatures():
    def all_at(dc):
        def change(p):
            p.dc = [dc] * 2

        return change

    for dc, charge, discharge in (
        (250, True, True),
        (431, False, True),
        (551, False, False),
        (24, False, True),
        (-151, False, False),
    ):
        p = _limits(all_at(dc))
        assert (p.power.charge_ma > 0, p.power.discharge_ma > 0) == (charge, discharge), dc
        if not charge:
            assert p.power.reason[CHARGE] == P.TEMP
    p = _limits(all_at(415))
    assert 40000 <= p.power.charge_ma <= 48000


def test_a_derating_fault_halves():
    p = _limits(lambda p: p.faults.set(F.VOLTAGE_DIFFERS - 1, 0, 2600))
    assert p.both() == (47000, 94000)
    assert p.power.reason[CHARGE] == P.DERATED


def test_a_derate_reduces_only_what_makes_it_worse():
    both = (47000, 94000)
    charge = (47000, 188000)
    discharge = (94000, 94000)
    expected = {
        F.CELL_HIGH: charge,
        F.CELL_LOW: discharge,
        F.CELL_SPREAD: (94000, 188000),  # by its size alone
        F.TEMP_HIGH: both,
        F.TEMP_LOW: both,
        F.TEMP_CHARGE_HIGH: charge,
        F.TEMP_CHARGE_LOW: charge,
        F.TEMP_SPREAD: both,
        F.BOARD_TEMP: both,
        F.VOLTAGE_HIGH: charge,
        F.VOLTAGE_LOW: discharge,
        F.VOLTAGE_DIFFERS: both,
        F.CHARGE_CURRENT: charge,
        F.DISCHARGE_CURRENT: discharge,
        F.CHARGE_PEAK: charge,
        F.DISCHARGE_PEAK: discharge,
        F.PACK_CHARGE: charge,
        F.PACK_DISCHARGE: discharge,
        F.ISOLATION_LOW: both,
        F.SLAVE_AGE: both,
    }
    assert len(expected) == F.QUANTITIES
    p = Pack().closed()
    for trip, limits in expected.items():
        fault = F.level_fault(F.quantity_of(trip), F.DERATE)
        p.faults.set(fault, 0, 1)
        p.ticks(1500)
        assert p.both() == limits, trip
        p.faults.clear(fault, 0)
        p.ticks(12000)
        assert p.both() == (94000, 188000), trip


def test_an_open_fet_reduces_only_its_direction():
    p = Pack(slaves=2, cells=2).closed()
    for first, second, limits in ((2, 2, (47000, 188000)), (1, 1, (94000, 94000)), (0, 0, None)):
        p.faults.set(F.SLAVE_SWITCH, 0, first)
        p.faults.set(F.SLAVE_SWITCH, 1, second)
        p.ticks(1500)
        assert p.both() == (limits or (47000, 94000))
        p.faults.clear(F.SLAVE_SWITCH, 0)
        p.ticks(12000)
        assert p.both() == (94000, 188000)
    p.faults.set(F.SLAVE_SWITCH, 0, 2)
    p.faults.set(F.SLAVE_SWITCH, 1, 1)  # the other FET of another board
    p.ticks(1500)
    assert p.both() == (47000, 94000)
    p.faults.clear(F.SLAVE_SWITCH, 1)
    assert (p.faults.derating(0, 0), p.faults.derating(0, 1)) == (0, 0)


def test_one_high_cell_leaves_the_discharge_and_one_low_cell_the_charge():
    def one(mv, others=3300):
        def change(p):
            p.mv = [others] * 4
            p.mv[2] = mv

        return change

    def two_high(p):
        p.mv = [3200, 3200, 3600, 3600]

    assert _limits(one(3640)).both() == (0, 188000)
    assert _limits(one(3300, 2900)).power.discharge_ma == 188000
    assert _limits(one(3590, 3190)).power.reason[CHARGE] == P.SPREAD
    p = _limits(one(2650))
    assert p.both() == (94000, 0)
    p = _limits(two_high)
    assert p.both() == (47000, 94000)  # a spread of 400 mV, nobody is further off


def test_a_string_voltage_below_that_of_the_cells_limits_too():
    settings = 'voltage_max = "14.0 V"; voltage_min = "11.0 V"'
    p = Pack(limits=settings).closed()
    # as far inside as those of the cells: 50 mV and 300 mV each
    assert (p.power.charge_mv, p.power.discharge_mv) == (13800, 12200)
    assert p.both() == (94000, 188000)
    for mv, charge, discharge in (
        (3450, 94000, 188000),
        (3460, 47000, 188000),
        (3470, 0, 188000),
        (3050, 94000, 188000),
        (2975, 94000, 94000),
        (2900, 94000, 0),
    ):
        p = Pack(limits=settings).closed()
        p.mv = [mv] * 4
        for _ in range(10):
            for current in p.currents:
                current.sample(0, p.now)
            p.scan()
        p.ticks(3000)
        assert p.trips() == []
        assert (p.power.charge_ma // 1000, p.power.discharge_ma // 1000) == (
            charge // 1000,
            discharge // 1000,
        ), mv
        if not charge:
            assert p.power.reason[CHARGE] == P.VOLTAGE


def test_a_string_voltage_that_is_measured_limits_by_what_is_measured():
    p = Pack(limits='voltage_max = "14.0 V"; voltage_sensor = true').closed()
    for _ in range(200):
        p.limits.string_measured(0, 13880, p.now)
        p.tick()
    assert p.power.charge_ma == 0
    assert p.power.reason[CHARGE] == P.VOLTAGE


def test_string_bounds_that_are_not_given_stay_inside_those_that_are():
    for settings in (
        'voltage_max = "14.0 V"',
        'voltage_derate_max = "14.2 V"',
        'voltage_max = "20 V"',
        'voltage_warn_max = "13.5 V"',
    ):
        limits = Pack(limits=settings).limits
        warn, derate, trip = [
            limits.bound(F.quantity_of(F.VOLTAGE_HIGH), level)
            for level in (F.WARN, F.DERATE, F.TRIP)
        ]
        assert warn <= derate < trip, settings
        assert warn <= 14400 and derate <= 14480, settings


def test_a_missing_reading_is_no_power():
    p = Pack(limits='cell_age = "60 s"').closed()
    p.pack.cell_flags[1] = 0
    p.mv[1] = None
    p.ticks(3000)
    assert p.both() == (0, 0)
    assert p.power.reason[CHARGE] == P.READINGS


def test_a_peak_goes_back_to_what_may_flow_without_end():
    p = Pack(limits='discharge_continuous = "100 A"').closed()
    assert p.power.discharge_ma == 188000
    p.limits.peak_pm[1] = 600
    p.ticks(3000)
    assert 140000 < p.power.discharge_ma < 150000
    assert p.power.reason[DISCHARGE] == P.PEAK
    p.limits.peak_pm[1] = 700
    p.ticks(3000)
    assert p.power.discharge_ma == 100000


def test_before_a_controlled_opening_it_is_zero():
    p = Pack().closed()
    p.board.ma = -50000
    p.tick()
    p.strings.open(p.now)
    p.ticks(1200)
    assert p.power.discharge_ma == 0
    assert p.power.reason[DISCHARGE] == P.OPENING
    assert p.strings.count_closed == 1  # it waits for the current
    p.board.ma = 0
    p.ticks(100)
    assert p.strings.count_closed == 0


def test_strings_add_up_and_the_weakest_decides():
    p = Pack(slaves=3, parallel=3).closed()
    assert p.both() == (3 * 94000, 3 * 188000)
    p.mv[5] = 3610
    p.ticks(4000)
    assert p.power.charge_ma == 3 * 47000
    p.mv[5] = 3300
    p.faults.set(F.CELL_LOST, 5, 0)  # the second leaves
    p.ticks(9000)
    assert p.both() == (2 * 94000, 2 * 188000)
    p = Pack(slaves=3, parallel=3, limits='pack_discharge_max = "300 A"').closed()
    assert p.power.discharge_ma == 282000


def test_small_packs_have_power_too():
    p = Pack(
        pack='capacity = "500 mAh"',
        limits='charge_max = "500 mA"; discharge_max = "900 mA"; current_hard_max = "2 A";'
        ' current_idle = "10 mA"',
    ).closed()
    assert p.both() == (470, 846)


# --- charge left ---


def test_charge_is_counted():
    p = Pack(pack='capacity = "10 Ah"').closed()
    p.soc._set(0, 500)
    p.board.ma = -10000  # 1 C: 36 s are one percent
    p.ticks(36 * 1000 * 5)
    assert 448 <= p.soc.pm[0] <= 452
    p.board.ma = 10000
    p.ticks(36 * 1000 * 10)
    assert 546 <= p.soc.pm[0] <= 552
    t = p.store.totals
    assert 495 <= t[S.CHARGE_OUT + 1] <= 505  # mAh
    assert 990 <= 1000 * t[S.CHARGE_IN] + t[S.CHARGE_IN + 1] <= 1010
    assert 6400 <= 1000 * t[S.ENERGY_OUT] + t[S.ENERGY_OUT + 1] <= 6700  # 0.5 Ah at 13.2 V
    assert 48 <= t[S.CYCLES + 1] <= 52


def test_full_and_empty():
    p = Pack().closed()
    p.mv = [3552] * 4
    p.board.ma = 3000
    p.ticks(SETTLED_MS)
    assert p.soc.pm[0] == 1000
    assert p.soc.sure[0]
    p.board.ma = -8000
    p.ticks(3000)
    p.mv = [2590, 2700, 2700, 2700]
    p.ticks(SETTLED_MS)
    assert p.soc.pm[0] == 0


def test_a_voltage_that_has_not_settled_is_neither_full_nor_empty():
    # truth 945: with 1 C the voltage is at full_cell, and for some seconds afterwards
    p = Pack(chemistry="NMC")
    p.soc._sure(0, 944)
    p.mv = [4190] * 4
    p.board.ma = 50000
    p.ticks(2000)
    p.board.ma = 2000
    p.mv = [4151] * 4
    p.ticks(1500)
    assert p.soc.pm[0] == 944
    p.mv = [4125] * 4
    p.ticks(2 * SETTLED_MS)
    assert 940 <= p.soc.pm[0] <= 965
    p.mv = [2870] * 4
    p.board.ma = -2000
    p.ticks(1500)
    assert p.soc.pm[0] >= 940


def test_a_charger_that_only_stops_makes_it_full():
    for chemistry, stopped, settled, expected in (
        ("LFP", 3600, 3454, (990, 1000)),
        ("LFP", 3600, 3340, (790, 800)),  # cold cells, far from full: the voltage tells nothing
        ("NMC", 4200, 4140, (955, 965)),
        ("LFP", (3600, 3400, 3400, 3400), (3454, 3345, 3345, 3345), (990, 1000)),  # one is full
    ):
        p = Pack(chemistry=chemistry)
        p.soc._sure(0, 790)
        p.board.ma = 40000
        p.mv = [stopped] * 4 if isinstance(stopped, int) else list(stopped)
        p.ticks(5000)
        p.board.ma = -300
        p.mv = [settled] * 4 if isinstance(settled, int) else list(settled)
        p.ticks(SETTLED_MS)
        assert expected[0] <= p.soc.pm[0] <= expected[1], (chemistry, settled, p.soc.pm[0])
        assert p.soc.sure[0]


def test_a_state_of_charge_is_sure_for_as_long_as_its_drift_is_small():
    p = Pack()
    p.soc._sure(0, 500)
    hours = 0
    for _ in range(400):
        p.soc._drift(0, 0)
    assert p.soc._drift_pm[0] == 0
    while p.soc.sure[0] and hours < 100:
        for _ in range(3600):
            p.soc._drift(0, 0)
        p.tick(1000)
        hours += 1
    assert 40 <= hours <= 60  # eight days of idle drain have made it unsure long ago
    assert p.store.totals[S.SOC] == 501  # still the best guess
    p.soc._sure(0, 500)
    for _ in range(3600 * 6):  # three full cycles with 2 C
        p.soc._drift(0, 100000)
    p.tick(1000)
    assert 40 <= p.store.totals[S.DRIFT] <= 80


def test_each_start_makes_it_less_sure():
    p = Pack()
    p.soc._sure(0, 620)
    p.ticks(2000)
    starts = 0
    while p.soc.sure[0]:
        p.renew()
        starts += 1
    assert 8 <= starts <= 12
    assert p.soc.pm[0] == 620
    p.soc._sure(0, 620)
    p.ticks(2000)
    p.renew()
    assert p.soc.sure[0]


def test_a_changed_pack_file_makes_it_a_guess():
    p = Pack()
    p.soc._sure(0, 620)
    p.ticks(2000)
    p.config.crc = 0x1234
    p.renew()
    assert (p.soc.pm[0], p.soc.sure[0]) == (620, 0)


def test_it_is_unknown_before_every_string_was_read():
    p = Pack(slaves=2, parallel=2)
    assert p.soc.pack_pm is None
    p.mv[6] = None
    p.pack.cell_flags[6] = 0
    p.ticks(2000)
    assert p.soc.pack_pm is None
    p.mv[6] = 3300
    p.ticks(2000)
    assert p.soc.pack_pm > 0


def test_what_a_silent_sensor_showed_last_is_not_counted():
    p = Pack(pack='capacity = "10 Ah"').closed()
    p.soc._sure(0, 500)
    p.board.ma = -36000  # 1 permille a second
    p.ticks(10000)
    assert 488 <= p.soc.pm[0] <= 491
    p.board.ma = None
    before = p.soc.pm[0]
    p.ticks(40000)
    assert before - p.soc.pm[0] <= 1
    # nor does a small last current mean rest or full while any current may flow
    p = Pack(limits="current_sensor = false", soc='rest_time = "10 s"', chemistry="NMC")
    p.soc._set(0, 300)
    for s in range(p.pack.strings):
        p.pack.energised[s] = 1
    for _ in range(1500):
        p.pass_ms(50)
        p.read()
        p.pack.update()
        p.soc.step(p.now)
    assert (p.soc.pm[0], p.soc.sure[0]) == (300, 0)


def test_after_a_rest_the_voltage_tells_unless_it_is_flat():
    for chemistry, mv, expected in (("NMC", 3751, 500), ("NMC", 4042, 800), ("LFP", 3053, 100)):
        p = Pack(chemistry=chemistry, soc='rest_time = "20 s"')
        p.soc._set(0, 300)
        p.mv = [mv] * 4
        p.board.ma = 0
        p.ticks(25000)
        assert p.soc.pm[0] == expected, (chemistry, mv)
        assert p.soc.sure[0]
    p = Pack(soc='rest_time = "20 s"')
    p.soc._set(0, 300)
    p.mv = [3265] * 4
    p.ticks(25000)
    assert p.soc.pm[0] == 300  # the flat part says nothing
    assert not p.soc.sure[0]


def test_it_begins_with_what_was_stored():
    p = Pack()
    p.store.totals[S.SOC] = 621 + 1
    p.renew()
    assert (p.soc.pm[0], p.soc.sure[0]) == (621, 1)
    p.ticks(2000)
    assert p.store.totals[S.SOC] == 622


def test_little_left_is_little_power_where_it_is_known():
    p = Pack().closed()
    p.soc._set(0, 60)
    p.ticks(3000)
    assert p.power.discharge_ma == 188000
    p.soc._sure(0, 60)
    p.ticks(3000)
    assert 90000 < p.power.discharge_ma < 98000
    assert p.power.reason[DISCHARGE] == P.SOC
    assert p.power.charge_ma == 94000


def test_a_deep_discharge_is_remembered():
    p = Pack()
    p.mv[3] = 1990
    p.ticks(1500)
    assert p.active(F.DEEP_DISCHARGE)
    p.mv[3] = 3300
    p.renew()  # after another start
    assert p.active(F.DEEP_DISCHARGE)
    p.soc.forget_deep()
    assert not p.active(F.DEEP_DISCHARGE)
    assert p.store.totals[S.DEEP] == 0


def test_tables_rise():
    for table in OCV_MV:
        assert len(table) == 25
        assert list(table) == sorted(set(table))
