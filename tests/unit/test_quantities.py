"""Every quantity at its three levels; what is measured twice."""

from bms.pack import FRESH
from bms.protection import fault_ids as F
from bms.protection.fault_catalog import QUANTITIES
from fakes import Parts


def _run(p, scans=20):
    for _ in range(scans):
        p.scan()
    return p


def _three_levels(make, name, values):
    """`make(value)`: an evaluated pack; values: inside, then beyond warn, derate, trip."""
    levels = ["", name + "_warning", name + "_derate", name]
    for i in range(4):
        names = make(values[i]).names()
        for k in range(1, 4):
            assert (levels[k] in names) == (k <= i), (name, values[i], names)


def test_cells():
    def high(mv):
        p = Parts().ready()
        p.mv = [mv] * 4
        return _run(p)

    _three_levels(high, "cell_high", (3600, 3601, 3621, 3651))
    _three_levels(high, "cell_low", (2800, 2799, 2649, 2499))
    _three_levels(high, "voltage_high", (3600, 3601, 3621, 3651))
    _three_levels(high, "voltage_low", (2800, 2799, 2649, 2499))

    def spread(mv):
        p = Parts().ready()
        p.mv = [mv, mv, 2850, mv]
        return _run(p)

    _three_levels(spread, "cell_spread", (3150, 3151, 3351, 3851))


def test_temperatures():
    def all_at(dc):
        p = Parts().ready()
        p.dc = [dc] * 2
        return _run(p)

    _three_levels(all_at, "temp_high", (500, 501, 551, 601))
    _three_levels(all_at, "temp_low", (-100, -101, -151, -201))

    def charging(dc):
        p = Parts().ready()
        p.dc = [dc] * 2
        for _ in range(20):
            p.current.sample(20000, p.now)
            p.scan()
        return p

    _three_levels(charging, "temp_charge_high", (400, 401, 431, 451))
    _three_levels(charging, "temp_charge_low", (50, 49, 24, -1))

    def spread(dc):
        p = Parts().ready()
        p.dc = [100, dc]
        return _run(p)

    _three_levels(spread, "temp_spread", (200, 201, 301, 401))


def test_where_nobody_knows_whether_it_charges_it_is_said_but_does_not_trip():
    p = Parts(limits="current_sensor = false").ready()
    p.dc = [-50] * 2
    _run(p, 40)
    assert p.names() == ["temp_charge_low_warning", "temp_charge_low_derate"]


def test_a_board_s_own_temperature():
    def board(dc):
        p = Parts(slaves=2).ready()
        for _ in range(20):
            for i in range(2):
                p.pack.stack_ok[i] = 1
                p.pack.stack_at[i] = p.now
                p.pack.stack_mv[i] = 4 * 3300
                p.pack.die_dc[i] = dc if i else 300
            p.scan()
        return p

    _three_levels(board, "board_temp", (750, 751, 851, 951))
    p = board(951)
    assert (p.faults.place[F.BOARD_TEMP], p.faults.value[F.BOARD_TEMP]) == (1, 951)


def _measured(by=0, each=3300, ms=3000, **limits):
    p = Parts(limits="voltage_sensor = true").ready()
    p.mv = [each] * 4
    for i in range(ms // 20):
        p.pass_ms(20)
        if i % 5 == 0:
            p.scan(0)
        p.limits.string_measured(0, sum(p.mv) + by, p.now)
    return p


def test_a_measured_string_against_its_cells():
    for sign in (1, -1):
        _three_levels(
            lambda by, sign=sign: _measured(sign * by, 3250),
            "voltage_differs",
            (2000, 2001, 2501, 3001),
        )
    assert _measured(3001, 3250, 900).trips() == []  # it takes its time
    p = Parts(limits="voltage_sensor = true").ready()
    for _ in range(100):
        p.pass_ms(20)
        p.limits.string_measured(0, None, p.now)
    assert p.trips() == []


def test_a_measured_string_s_own_bounds():
    p = _measured(1500, 3300)
    assert p.names() == ["voltage_high_warning", "voltage_high_derate", "voltage_high"]
    assert p.faults.value[F.VOLTAGE_HIGH] == 4 * 3300 + 1500


def test_currents():
    def charge(ma):
        p = Parts().ready()
        for _ in range(30):
            p.sample(ma)
        return p

    _three_levels(charge, "charge_current", (94000, 94001, 97001, 100001))
    _three_levels(charge, "discharge_current", (-188000, -188001, -194001, -200001))


def _peak(ma, ms, **more):
    p = Parts(
        limits='charge_continuous = "50 A"; discharge_continuous = "100 A"; peak_time = "10 s"'
    ).ready()
    for _ in range(ms // 10):
        p.sample(ma)
    return p


def test_a_peak_uses_up_its_budget():
    # the bound itself may last for peak_time
    assert _peak(-200000, 9700).trips() == []
    p = _peak(-200000, 10400)
    assert p.trips() == ["discharge_peak"]
    # at 150 A of 100 A: (2.25 - 1) / (4 - 1) of the rate, so 24 s
    assert _peak(-150000, 23000).trips() == []
    assert _peak(-150000, 25500).trips() == ["discharge_peak"]
    assert _peak(-100000, 60000).names() == []
    assert _peak(99000, 10900).trips() == ["charge_peak"]
    assert _peak(-200000, 5000).names()[0] == "discharge_current_warning"
    assert "discharge_peak_warning" in _peak(-199000, 5300).names()
    assert "discharge_peak_derate" in _peak(-199000, 7300).names()
    # and comes back
    p = _peak(-200000, 9000)
    assert 850 <= p.limits.peak_pm[1] <= 950
    for _ in range(400):
        p.sample(0)
    assert p.limits.peak_pm[1] < 800
    for _ in range(4000):
        p.sample(0)
    assert p.limits.peak_pm[1] == 0
    for _ in range(300):
        p.sample(-200000)
    assert p.trips() == []


def test_the_age_of_a_slave():
    def silent(scans):
        p = Parts(slaves=2).ready()
        p.scan()
        for i in range(4, 8):
            p.mv[i] = None
        _run(p, scans)
        return p

    assert silent(2).names() == []
    assert silent(4).names() == ["slave_age_warning"]
    assert silent(5).names() == ["slave_age_warning", "slave_age_derate"]
    p = silent(9)
    assert p.faults.first == F.CELL_LOST
    assert (p.faults.place[F.SLAVE_AGE], p.faults.place[F.CELL_LOST]) == (1, 4)
    assert (p.faults.place[F.SLAVES_MISSING], p.faults.value[F.SLAVES_MISSING]) == (0, 1)


def test_a_slave_s_warning_is_said():
    p = Parts(slaves=2).ready()
    p.pack.slave_flags[1] = 0x0200
    p.scan()
    assert p.names() == ["slave_warning"]
    assert (p.faults.place[F.SLAVE_WARNING], p.faults.value[F.SLAVE_WARNING]) == (1, 0x0200)
    p.pack.slave_flags[1] = 0
    p.scan()
    assert p.names() == []


def test_each_sense_wire_broken_one_by_one_is_found():
    # lesson 8: the tap between two cells floats: one reads high, its neighbour as much low
    for slaves, parallel in ((2, 1), (6, 3)):
        for slave in range(slaves):
            for wire in range(3):
                for by in (400, -400):
                    p = Parts(slaves=slaves, parallel=parallel).ready()
                    p.scan()
                    i = 4 * slave + wire
                    p.mv[i] += by
                    p.mv[i + 1] -= by
                    _run(p, 3)
                    assert p.trips() == ["open_wire"], (slave, wire, by)
                    string = slave * parallel // slaves
                    at = p.faults.slot(F.OPEN_WIRE, string if parallel > 1 else 0)
                    assert p.faults.place[at] == i
                    assert p.faults.blocking(string)


def test_cells_that_are_apart_without_a_wire():
    # last cell of one board, first of the next: no wire of one board; and one cell alone
    p = Parts(slaves=2).ready()
    p.mv[3] += 400
    p.mv[4] -= 400
    _run(p, 8)
    assert "open_wire" not in p.names()
    p = Parts().ready()
    p.mv[1] -= 450
    _run(p, 8)
    assert "open_wire" not in p.names()
    # one bad scan is none
    p = Parts().ready()
    p.mv[1] += 400
    p.mv[2] -= 400
    p.scan()
    p.mv = [3300] * 4
    _run(p, 8)
    assert p.names() == []


def _moving(p, stuck, ma, scans=1300):
    for i in range(scans):
        p.current.sample(ma * (i % 2), p.now)
        p.limits.current_sampled(0, p.now)
        for cell in range(len(p.mv)):
            if cell not in stuck:
                p.mv[cell] = 3300 + 5 * (i % 2)
        p.scan()
    return p


def test_a_reading_that_does_not_move_with_the_current_is_stuck():
    assert _moving(Parts().ready(), (), 30000).names() == []
    for cell in range(4):
        p = _moving(Parts().ready(), (cell,), 30000)
        assert p.trips() == ["cell_stuck"]
        assert p.faults.place[F.CELL_STUCK] == cell
    # while the current rests, so may the cells
    assert _moving(Parts().ready(), (0, 1, 2, 3), 10000).names() == []
    assert _moving(Parts(limits='stuck_time = "0 s"').ready(), (1,), 30000).names() == []


def test_a_cell_that_is_not_read_is_not_stuck():
    p = Parts(limits='cell_age = "60 s"').ready()
    p.pack.cell_flags[2] &= 0xFF - FRESH
    p.mv[2] = None
    for i in range(700):
        p.current.sample(30000 * (i % 2), p.now)
        p.limits.current_sampled(0, p.now)
        for cell in (0, 1, 3):
            p.mv[cell] = 3300 + 5 * (i % 2)
        p.scan()
    assert "cell_stuck" not in p.names()


def test_samples_are_needed_besides_time():
    p = Parts(limits='cell_samples = 8; cell_delay = "300 ms"').ready()
    p.scan()
    p.mv[0] = 3700
    _run(p, 7)
    assert p.trips() == []
    _run(p, 2)
    assert p.trips()[0] == "cell_high"


def test_levels_are_kept_apart_for_power():
    p = Parts().ready()
    p.mv = [3630] * 4
    _run(p, 20)
    assert p.faults.derating(0, 0) == 2  # cell and string voltage
    assert p.faults.derating(0, 1) == 0
    assert p.trips() == []
    p.mv = [3400] * 4
    _run(p, 60)
    assert p.faults.derating(0, 0) == 0


def test_every_levelled_quantity_has_three_codes():
    codes = [code for row in QUANTITIES for code in row[1]]
    assert len(codes) == 60
    assert len(set(codes)) == 60
