"""The campaign's kinds of faults, and the reaction that each of them must cause.

A kind is injected into a `FaultRun` at a moment of its sequence. Allowed times are in ms, from what
`since` names. Sources of the times: 10 ms for hard bounds, 1 ms for inputs, the pack file's own
delays and ages for all others, plus the time to notice it: samples and one scan.
"""

import binascii
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bms.config import pack_file

from .boards.cell_link import CellLinkBoard
from .fault_run import LAGS_S, MOMENTS, FaultRun
from .plant import HEARTBEAT_US
from .process import ESTOP, FAULT_LINE, INTERLOCK
from .sensors import RAIL_MV

TICK_MS = 20  # the firmware looks at ages, contactors and inputs so often
HARD_MS = 10
LINKS = ("can", "uart")
STRINGS = (1, 3)
INPUT_MS = 1
HALL_MS = 26  # two of its values of four readings, each 2 ms, after the one that has begun

CLOSED = ("closed", "discharge", "charge", "balancing", "opening")
RUNNING = ("precharge", *CLOSED)
LOADED = ("discharge", "charge")

STAGES = (
    "_scan",
    "_evaluate",
    "_act",
    "_report",
    "_feed",
    "_work_step",
    "limits.evaluate_next",
    "limits.scan_finished",
    "limits.current_sampled",
    "limits.check_ages",
    "strings.step",
    "inputs.step",
    "freeze_frame.step",
    "balancing.step",
    "console.step",
    "telemetry.step",
    "telemetry.look",
    "tx_buffer.flush",
    "drivers.0.step",
    "drivers.0.scan_started",
    "pack.update",
    "pack.expire",
    "currents.0.sample",
    "currents.0.age",
    "recorder.step",
    "store.step",
    "soc.step",
    "power.step",
    "string_sensors.0.step",
    "string_sensors.0.tick",
)
PROVEN = ("_scan", "_evaluate", "_act", "_report")  # without their proof the watchdog isn't fed
ERRORS = ("RuntimeError", "ValueError", "IndexError", "AttributeError", "OSError", "MemoryError")

SWING_US = 400_000  # half a period of a load that comes and goes
LONG_SWING_US = 900_000  # so long that the current is steady for two scans

Inject = Callable[[FaultRun], None]


@dataclass(frozen=True)
class Kind:
    """One kind of fault.

    trips: one of these must be reported; scope: what must open, the "string" that is hit or the
    "pack". since: what the time counts from, the "cause", the "frame" that first shows it (its last
    bit), the "close" (the first coil on), "off" (the coils are off).
    outcome: "open", or "latched" (reported, and it opens or stays open), "reported" (and nothing
    opens), "program_ends" (coils off first), "supervisor_opens" (the contactors open without the
    firmware), "config_error" (nothing closes), "starts_whole" (after a power cut the store is
    valid), "nobody_joins" (latched, and no string that is apart closes), "nothing" (no fault at
    all: both runs are faultless).
    never: none of these may be reported. first: it hits the string that closes first. varied:
    entries of the run's Setup that differ from case to case. prepare: done in the faultless twin
    too, which goes on for twin_us behind its moment.
    """

    name: str
    meaning: str
    inject: Inject
    allowed_ms: Callable[[FaultRun], float]
    trips: tuple[str, ...] = ()
    moments: tuple[str, ...] = MOMENTS
    scope: str = "string"
    since: str = "cause"
    outcome: str = "open"
    setup: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    links: tuple[str, ...] = LINKS
    strings: tuple[int, ...] = STRINGS
    broken: Callable[[FaultRun], dict[str, Any]] | None = None
    never: tuple[str, ...] = ()
    first: bool = False
    varied: Callable[[random.Random], dict[str, Any]] = lambda rng: {}
    twin_us: int = 2_000_000
    prepare: Inject = lambda run: None
    before_boot: Inject = lambda run: None


def _board(t: FaultRun) -> CellLinkBoard:
    """The board that is hit."""
    board = t.world.boards[t.slave]
    assert isinstance(board, CellLinkBoard)
    return board


def _hard(t: FaultRun) -> float:
    return HARD_MS


def _at_once(t: FaultRun) -> float:
    return INPUT_MS


def _delayed(delay: str, samples: str) -> Callable[[FaultRun], float]:
    def allowed(t: FaultRun) -> float:
        scans = getattr(t.config, samples) + 1
        return getattr(t.config, delay + "_ms") + scans * t.scan_ms

    return allowed


_cell = _delayed("cell_delay", "cell_samples")
_temp = _delayed("temp_delay", "temp_samples")


def _by_tick(delay: str, samples: str) -> Callable[[FaultRun], float]:
    """Of what is measured each tick, not each scan."""

    def allowed(t: FaultRun) -> float:
        ticks = getattr(t.config, samples) + 2
        return getattr(t.config, delay + "_ms") + ticks * TICK_MS

    return allowed


def _age(t: FaultRun) -> float:
    return t.config.cell_age_ms + t.scan_ms


def _feedback(t: FaultRun) -> float:
    return t.config.feedback_delay_ms + 3 * TICK_MS


def _precharge(t: FaultRun) -> float:
    c = t.config
    one = c.precharge_tries * (c.contactor_settle_ms + c.precharge_max_ms + 2 * TICK_MS)
    one += (c.precharge_tries - 1) * (c.precharge_rest_ms + TICK_MS)
    return one * t.setup.strings  # one string tries after the other


# --- cells and temperatures ---


def _show(what: str) -> Inject:
    def inject(t: FaultRun) -> None:
        t.world.cells.override_v[t.cell] = t.mv[what] / 1000

    return inject


def _apart(t: FaultRun) -> None:
    """Two cells far from each other, both within their own bounds."""
    high, low = t.mv["far"]
    cells = t.cells()
    t.world.cells.override_v[cells[0]] = high / 1000
    t.world.cells.override_v[cells[len(cells) // 2]] = low / 1000


def _wire(t: FaultRun) -> None:
    """The wire between two cells: one reads high, the other low, their sum stays."""
    each = t.setup.cells
    i = t.cell if t.cell % each < each - 1 else t.cell - 1
    volts = t.world.cells.voltage_v()
    side = t.rng.choice((-1, 1)) * t.mv["wire"] / 1000
    t.world.cells.override_v[i] = volts[i] + side
    t.world.cells.override_v[i + 1] = volts[i + 1] - side


def _warm(celsius: float) -> Inject:
    """All of the string."""

    def inject(t: FaultRun) -> None:
        for i in t.cells():
            t.world.cells.override_temp_c[i] = celsius

    return inject


def _one_warm(t: FaultRun) -> None:
    t.world.cells.override_temp_c[t.sensed()] = 58.0


def _board_hot(t: FaultRun) -> None:
    t.world.boards[t.slave].hotter_c = 70


def _string_voltage(side: int) -> Inject:
    def inject(t: FaultRun) -> None:
        t.world.cells.override_v[:] = 3.56 if side > 0 else 2.9

    return inject


def _no_temp(t: FaultRun) -> None:
    t.world.boards[t.slave].open_temps.add(t.rng.randrange(t.setup.temps))


def _no_cell(t: FaultRun) -> None:
    t.world.boards[t.slave].open_cells.add(t.rng.randrange(t.setup.cells))


def _swings(half_us: int) -> Inject:
    """A load that comes and goes."""

    def inject(t: FaultRun) -> None:
        sign = 1 if t.case.moment == "charge" else -1
        amps = [5.0, 40.0]

        def again() -> None:
            amps.reverse()
            t.world.set_load(sign * amps[0] * t.setup.strings)
            t.at(half_us, again)

        again()

    return inject


_swing = _swings(SWING_US)


def _stuck(t: FaultRun) -> None:
    board = t.world.boards[t.slave]
    volts = t.world.cells.voltage_v()
    board.stuck[t.cell % t.setup.cells] = round(float(volts[t.cell]) * 1000)


# --- currents and what is measured besides ---


def _load(amps: float) -> Inject:
    def inject(t: FaultRun) -> None:
        t.world.set_load(amps * t.setup.strings)

    return inject


def _peak(t: FaultRun) -> float:
    """Until the budget of I2t is used up."""
    c = t.config
    charging = t.world.load_a > 0
    most = c.charge_max_ma if charging else c.discharge_max_ma
    long = c.charge_continuous_ma if charging else c.discharge_continuous_ma
    now = abs(t.world.load_a) / t.setup.strings * 1000
    share = (most * most - long * long) / (now * now - long * long)
    return share * c.peak_time_ms * 1.05 + 5 * TICK_MS


def _current(t: FaultRun) -> float:
    return t.config.current_delay_ms + (t.config.current_samples + 2) * TICK_MS


def _current_hard(t: FaultRun) -> float:
    return HARD_MS + TICK_MS  # a sample is taken each tick at least


def _short(t: FaultRun) -> None:
    t.world.short(0.002)


def _isolation(t: FaultRun) -> None:
    t.world.isolation_kohm = 300.0


def _differs(t: FaultRun) -> None:
    t.world.voltages[t.string].offset = t.rng.choice((-4000.0, 4000.0))


def _no_current(t: FaultRun) -> None:
    t.world.currents[t.string].ok = False


def _frozen(t: FaultRun) -> None:
    t.world.currents[t.string].frozen = True


def _flowing(t: FaultRun) -> None:
    """A sensor that shows a current that cannot be."""
    t.world.currents[t.string].offset = t.rng.choice((-8000.0, 8000.0))
    if t.case.moment == "opening":
        t.at(300_000, lambda: t.world.set_load(0.0))


def _reverse(t: FaultRun) -> None:
    """The current sensor is mounted the wrong way round."""
    t.world.currents[t.string].gain = -1.0


def _reversed_ms(t: FaultRun) -> float:
    """Five steps against the current, and one to compare the first with."""
    return 7 * LONG_SWING_US / 1000


def _lose_range(t: FaultRun) -> None:
    """The wire of the large range breaks or is shorted."""
    t.world.halls[2 * t.string + 1].broken_mv = t.rng.choice((0, 40, RAIL_MV))


def _lose_range_loaded(t: FaultRun) -> None:
    """And a current flows beyond the small range, whose output may stop early."""
    _lose_range(t)
    t.world.halls[2 * t.string].clamp = t.rng.uniform(0.99, 1.02)
    if t.setup.strings == 1:
        amps = t.rng.choice((-1, 1)) * t.rng.uniform(80.0, 95.0)
    else:
        # strings share unequally by 10 A; the others take its share over, below their own bound
        amps = -t.rng.uniform(86.0, 90.0)
    t.world.set_load(amps * t.setup.strings)


def _lost_current(t: FaultRun) -> float:
    """The last good sample gets too old, or the broken sensor says that it is."""
    return t.config.current_age_ms + t.config.current_error_delay_ms + 3 * TICK_MS


def _charge_late(t: FaultRun) -> None:
    t.charge_late(t.rng.uniform(20.0, 60.0) * t.setup.strings, t.rng.uniform(*LAGS_S))


def _nearly_full(rng: random.Random) -> dict[str, Any]:
    if rng.random() < 0.5:
        return {"chemistry": "LFP", "soc": rng.uniform(0.97, 0.985)}
    return {"chemistry": "NMC", "soc": rng.uniform(0.9, 0.97)}


def _wrong_gain(t: FaultRun) -> None:
    """A sensor that shows a fraction of what flows."""
    t.world.currents[t.string].gain = 0.1


# --- slaves ---


def _alarm(t: FaultRun) -> None:
    _board(t).alarm_high_mv = 2000


def _silent(t: FaultRun) -> None:
    t.world.boards[t.slave].alive = False


def _all_silent(t: FaultRun) -> None:
    first = t.string * t.setup.slaves
    for board in t.world.boards[first : first + t.setup.slaves]:
        board.alive = False


def _restart(t: FaultRun) -> None:
    t.world.boards[t.slave].restart()


def _neighbour(t: FaultRun) -> int:
    """Another board of the same string."""
    first = t.string * t.setup.slaves
    return first + (t.slave - first + 1) % t.setup.slaves


def _swap(t: FaultRun) -> None:
    one, other = t.world.boards[t.slave], t.world.boards[_neighbour(t)]
    one.node, other.node = other.node, one.node
    one.restart()
    other.restart()


def _answers_for(t: FaultRun) -> None:
    t.world.boards[t.slave].node = t.world.boards[_neighbour(t)].node


def _twin(t: FaultRun) -> None:
    t.world.add_board(t.slave)


def _other_board(t: FaultRun) -> None:
    _board(t).lose_cell()
    t.world.boards[t.slave].restart()


def _stack(t: FaultRun) -> None:
    t.world.boards[t.slave].stack_error_mv = t.rng.choice((-2500, 2500))


def _no_status(t: FaultRun) -> None:
    _board(t).says_status = False


# --- contactors ---


def _break(fault: str, *names: str) -> Inject:
    def inject(t: FaultRun) -> None:
        # in a precharge the others' coils are off: they show when they are to close
        which = "minus" if t.case.moment == "precharge" else t.rng.choice(names)
        setattr(t.world.plant.strings[t.string].contactors[which], fault, True)

    return inject


def _then_open(break_: Inject) -> Inject:
    """While it opens: it does so when the load is gone."""

    def inject(t: FaultRun) -> None:
        break_(t)
        if t.case.moment == "opening":
            t.at(300_000, lambda: t.world.set_load(0.0))

    return inject


def _apart_strings(rng: random.Random) -> dict[str, Any]:
    """Three strings, one or two of them 1.3 V and more below the others.

    Up to 2.7 V apart the window of precharge does not tell them from one whose link is charged.
    """
    low = rng.choice(((1,), (2,), (1, 2)))
    places = rng.sample(range(3), 3)
    apart = rng.uniform(0.11, 0.3)
    socs = [0.15 - apart if place in low else 0.15 for place in places]
    return {"chemistry": "NMC", "string_soc": socs}


def _weld_string(t: FaultRun) -> None:
    """Both contacts weld: before it closes, as it opens, or as a fault opens it."""
    t.any_string = False  # it stays the one that was hit
    for name in ("minus", "plus"):
        t.world.plant.strings[t.string].contactors[name].welded = True
    if t.case.moment == "opening":
        t.at(300_000, lambda: t.world.set_load(0.0))
    elif t.case.moment != "before":
        t.world.set_load(0.0)
        t.world.cells.override_v[t.cells()[0]] = t.mv["hard_high"] / 1000
        t.at(1_500_000, lambda: _heal(t))
    for delay_us in (1_000_000, 1_900_000, 2_600_000):
        t.at(delay_us, lambda: t.world.type("clear"))
        t.at(delay_us + t.rng.randrange(1_000, 300_000), lambda: t.world.type("close"))


def _heal(t: FaultRun) -> None:
    t.world.cells.override_v[:] = float("nan")


def _short_link(t: FaultRun) -> None:
    t.world.short(1.0)


def _load_link(t: FaultRun) -> None:
    t.world.short(t.rng.choice((60.0, 10.0, 1.0)))


def _link_short(t: FaultRun) -> None:
    """Of any size before there is a current; while closed so that it passes the hard bound."""
    if t.case.moment in ("before", "precharge"):
        t.world.short(10 ** t.rng.uniform(-3.0, 1.0))
    else:
        t.world.short(t.rng.uniform(0.001, 0.004))


def _link_short_ms(t: FaultRun) -> float:
    return _precharge(t) if t.case.moment in ("before", "precharge") else _current_hard(t)


def _hold_link(t: FaultRun) -> None:
    world = t.world
    volts = [world.plant.terminal_v(n) for n in range(t.setup.strings)]
    world.hold_link(max(volts) * t.rng.uniform(1.12, 1.6), 1.0)


def _bridge_resistor(t: FaultRun) -> None:
    for string in t.world.plant.strings:
        string.precharge_resistor_shorted = True


def _no_resistor(t: FaultRun) -> None:
    for string in t.world.plant.strings:
        string.precharge_resistor_open = True


def _line(bit: int) -> Inject:
    def inject(t: FaultRun) -> None:
        t.world.set_lines(bit, False)

    return inject


# --- the firmware itself ---


def _mark(t: FaultRun) -> None:
    t.world.mark = 1


def _mark_and_high(t: FaultRun) -> None:
    _mark(t)
    t.at(1_500_000, lambda: _show("hard_high")(t))


def _mark_and_trip(t: FaultRun) -> None:
    """Something to store."""
    _mark(t)
    t.at(100_000, lambda: t.world.set_lines(ESTOP, False))
    t.at(1_000_000, lambda: t.world.set_lines(ESTOP, True))


def _skipped(t: FaultRun) -> dict[str, Any]:
    return {"what": "skip", "stage": t.rng.choice(PROVEN)}


def _broken(what: str) -> Callable[[FaultRun], dict[str, Any]]:
    def how(t: FaultRun) -> dict[str, Any]:
        return {
            "what": what,
            "stage": t.rng.choice(STAGES),
            "error": t.rng.choice(ERRORS),
            "bytes": t.rng.choice((0, 1, t.rng.randrange(2, 64), t.rng.randrange(64, 4096))),
            "skip": t.rng.randrange(2),
        }

    return how


def _corrupt(t: FaultRun) -> None:
    """The file with the settings as flash leaves it: cut short, erased in parts, bits flipped.

    With its checksum, as it lies on a board; the copy is whole in half of the cases.
    """
    path = t.world.pack_file
    text = path.read_bytes()
    data = bytearray(text + pack_file.mark(len(text), binascii.crc32(text)))
    copy = path.with_name(path.name + pack_file.COPY)
    copy.write_bytes(data if t.rng.random() < 0.5 else data[: len(data) // 2])
    t.copied = len(copy.read_bytes()) == len(data)
    at = t.rng.randrange(len(data) * 3 // 4)
    how = t.rng.randrange(4)
    if how == 3:
        del data[:]
    elif how == 0:
        del data[at:]
    elif how == 1:
        data[at : at + 64] = b"\xff" * len(data[at : at + 64])
    else:
        for _ in range(3):
            data[t.rng.randrange(len(data))] ^= 1 << t.rng.randrange(8)
    path.write_bytes(bytes(data))


def _voltages(setup_cells: int) -> dict[str, Any]:
    n = setup_cells
    return {
        "voltage_max": f"{3.50 * n:.2f} V",
        "voltage_derate_max": f"{3.48 * n:.2f} V",
        "voltage_warn_max": f"{3.46 * n:.2f} V",
        "voltage_warn_min": f"{3.10 * n:.2f} V",
        "voltage_derate_min": f"{3.05 * n:.2f} V",
        "voltage_min": f"{3.00 * n:.2f} V",
    }


# a sensor that proves a precharge: its noise is small beside a tenth of the first 0.26 A or more
_PROVES = {"current_noise_ma": 8.0}
_TWO_BOARDS = {"slaves": 2}
_VOLTAGE = {"setup": _TWO_BOARDS, "settings": _voltages(16), "scope": "pack"}
_LFP_MOMENTS = ("before", "precharge", "closed", "discharge", "charge", "opening")
_LOST = ("cell_lost", "slave_age", "slaves_missing")

KINDS: tuple[Kind, ...] = (
    Kind(
        "cell_hard_high",
        "a cell far above, one reading",
        _show("hard_high"),
        _hard,
        ("cell_hard_high",),
        since="frame",
    ),
    Kind(
        "cell_hard_low",
        "a cell far below, one reading",
        _show("hard_low"),
        _hard,
        ("cell_hard_low",),
        since="frame",
    ),
    Kind("cell_high", "a cell above cell_max", _show("high"), _cell, ("cell_high",)),
    Kind("cell_low", "a cell below cell_min", _show("low"), _cell, ("cell_low", "cell_spread")),
    Kind("cell_spread", "highest - lowest cell", _apart, _cell, ("cell_spread",)),
    Kind(
        "temp_hard_high",
        "far too warm, one reading",
        _warm(73.0),
        _hard,
        ("temp_hard_high",),
        since="frame",
    ),
    Kind("temp_high", "too warm", _warm(62.5), _temp, ("temp_high",)),
    Kind(
        "temp_low",
        "too cold",
        _warm(-22.5),
        _temp,
        ("temp_low", "temp_charge_low"),
    ),
    Kind(
        "temp_charge_high",
        "too warm to charge",
        _warm(48.0),
        _temp,
        ("temp_charge_high",),
        ("charge",),
    ),
    Kind(
        "temp_charge_low",
        "too cold to charge",
        _warm(-3.0),
        _temp,
        ("temp_charge_low",),
        ("charge",),
    ),
    Kind("temp_spread", "warmest - coldest sensor", _one_warm, _temp, ("temp_spread",)),
    Kind("board_temp", "a slave board too warm", _board_hot, _temp, ("board_temp",)),
    Kind(
        "voltage_high",
        "a string's voltage too high",
        _string_voltage(1),
        _by_tick("voltage_delay", "voltage_samples"),
        ("voltage_high",),
        _LFP_MOMENTS,
        **_VOLTAGE,
    ),
    Kind(
        "voltage_low",
        "a string's voltage too low",
        _string_voltage(-1),
        _by_tick("voltage_delay", "voltage_samples"),
        ("voltage_low",),
        _LFP_MOMENTS,
        **_VOLTAGE,
    ),
    Kind(
        "voltage_differs",
        "sum of cells against measured voltage",
        _differs,
        _by_tick("voltage_delay", "voltage_samples"),
        ("voltage_differs",),
    ),
    Kind(
        "charge_current",
        "charge current above its bound",
        _load(120.0),
        _current,
        ("charge_current", "pack_charge"),
        CLOSED,
        "pack",
    ),
    Kind(
        "discharge_current",
        "discharge current above its bound",
        _load(-180.0),
        _current,
        ("discharge_current", "pack_discharge"),
        CLOSED,
        "pack",
    ),
    Kind(
        "current_hard",
        "current far beyond, one sample",
        _load(-450.0),
        _current_hard,
        ("current_hard",),
        CLOSED,
        "pack",
    ),
    Kind(
        "current_hard_hall",
        "current far beyond, measured by a two-range Hall sensor",
        _load(-450.0),
        lambda t: HARD_MS + HALL_MS,
        ("current_hard",),
        CLOSED,
        "pack",
        setup={"hall": True},
    ),
    Kind(
        "short_circuit",
        "a short across the DC link",
        _short,
        _current_hard,
        ("current_hard",),
        CLOSED,
        "pack",
    ),
    Kind(
        "charge_peak",
        "charge peak longer than its I2t",
        _load(85.0),  # strings share unequally: each stays below charge_max
        _peak,
        ("charge_peak",),
        CLOSED,
        "pack",
    ),
    Kind(
        "discharge_peak",
        "discharge peak longer than its I2t",
        _load(-135.0),
        _peak,
        ("discharge_peak",),
        CLOSED,
        "pack",
    ),
    Kind(
        "isolation_low",
        "isolation resistance too low",
        _isolation,
        _by_tick("isolation_delay", "isolation_samples"),
        ("isolation_low",),
        scope="pack",
    ),
    Kind(
        "slave_alarm",
        "a slave's own alarm",
        _alarm,
        lambda t: t.scan_ms + 3 * HARD_MS,
        ("slave_alarm",),
    ),
    Kind("slave_silent", "a slave falls silent", _silent, _age, _LOST),
    Kind("string_silent", "all slaves of a string fall silent", _all_silent, _age, _LOST),
    Kind(
        "status_lost",
        "a slave's STATUS falls silent, its readings come",
        _no_status,
        lambda t: t.config.temp_age_ms + 2 * t.scan_ms,
        ("status_lost",),
        never=("cell_lost", "temp_lost", "slave_age", "slaves_missing"),
    ),
    Kind(
        "slave_reboot",
        "a slave restarts",
        _restart,
        lambda t: 150 + 4 * t.scan_ms,
        ("slave_reboot",),
        outcome="reported",
    ),
    Kind(
        "slaves_swapped",
        "two slaves in each other's place",
        _swap,
        lambda t: 150 + _age(t),
        ("slave_mismatch", "slave_conflict", *_LOST),
        setup={"slaves": 2, "serials": True},
    ),
    Kind(
        "wrong_responder",
        "a slave answers for its neighbour",
        _answers_for,
        _age,
        ("slave_conflict", *_LOST),
        setup=_TWO_BOARDS,
    ),
    Kind(
        "slave_twin",
        "a further slave with a number that is taken",
        _twin,
        _age,
        ("slave_conflict", *_LOST),
    ),
    Kind(
        "slave_other",
        "a slave starts again with other cells",
        _other_board,
        lambda t: 150 + _age(t),
        ("slave_mismatch", *_LOST),
    ),
    Kind(
        "stack_voltage",
        "a slave's own sum against its cells",
        _stack,
        lambda t: 4 * t.scan_ms + HARD_MS,
        ("stack_voltage",),
    ),
    Kind("cell_unread", "a cell without reading", _no_cell, _age, ("cell_lost", "stack_voltage")),
    Kind(
        "temp_unread",
        "a temperature sensor breaks off",
        _no_temp,
        lambda t: t.config.temp_age_ms + t.scan_ms,
        ("temp_lost",),
    ),
    Kind(
        "cell_stuck",
        "a reading that never changes",
        _stuck,
        lambda t: 2 * t.config.stuck_time_ms + 2 * t.scan_ms,
        ("cell_stuck",),
        LOADED,
        prepare=_swing,
    ),
    Kind(
        "open_wire",
        "a sense wire breaks off",
        _wire,
        lambda t: 3 * t.scan_ms + HARD_MS,
        ("open_wire",),
    ),
    Kind(
        "welded",
        "minus or plus does not open",
        _then_open(_break("welded", "minus", "plus")),
        _feedback,
        ("contactor_welded", "link_rise"),
        ("before", "opening"),
        since="off",
        outcome="latched",
    ),
    Kind(
        "precharge_welded",
        "the precharge relay does not open",
        _then_open(_break("welded", "precharge")),
        _feedback,
        ("contactor_welded", "link_rise"),
        ("before", "opening"),
        since="off",
        outcome="latched",
    ),
    Kind(
        "stuck_open",
        "minus or plus does not close, or falls open",
        _break("stuck_open", "minus", "plus"),
        _feedback,
        ("contactor_feedback",),
        ("precharge", "closed", "discharge", "charge", "balancing"),
    ),
    Kind(
        "never_closes",
        "a contactor does not close from the start",
        _break("stuck_open", "minus", "precharge", "plus"),
        lambda t: _precharge(t) + _feedback(t),
        ("contactor_feedback", "precharge_failed"),
        ("before",),
        since="close",
    ),
    Kind(
        "feedback_lost",
        "an auxiliary contact opens",
        _break("feedback_lost", "minus"),
        _feedback,
        ("contactor_feedback",),
        RUNNING,
    ),
    Kind(
        "feedback_stuck",
        "an auxiliary contact stays closed",
        _then_open(_break("feedback_stuck_closed", "minus", "precharge", "plus")),
        _feedback,
        ("contactor_welded",),
        ("before", "opening"),
        since="off",
        outcome="latched",
    ),
    Kind(
        "precharge_short",
        "precharge into a short",
        _short_link,
        _precharge,
        ("precharge_failed",),
        ("before", "precharge"),
        "pack",
        "close",
    ),
    Kind(
        "precharge_load",
        "precharge into a load or a short, proven by the current",
        _load_link,
        _precharge,
        ("precharge_load",),
        ("before",),
        "pack",
        "close",
        setup=_PROVES,
        settings={"link_sensor": False},
    ),
    Kind(
        "link_short",
        "a short on the link before, during or after a precharge that the current proves",
        _link_short,
        _link_short_ms,
        ("precharge_load", "current_hard"),
        ("before", "precharge", "closed", "discharge", "charge", "opening"),
        "pack",
        "close",
        setup=_PROVES,
        settings={"link_sensor": False},
        never=("contactor_welded", "contactor_feedback", "current_while_open", "current_lost"),
    ),
    Kind(
        "welded_string",
        "a whole string welds, and others that are apart wait or are to close",
        _weld_string,
        _feedback,
        ("contactor_welded", "link_rise"),
        ("before", "closed", "opening"),
        since="off",
        outcome="nobody_joins",
        strings=(3,),
        first=True,
        varied=_apart_strings,
        never=("current_lost", "precharge_load"),
    ),
    Kind(
        "link_held",
        "a charger holds the link above the string's voltage",
        _hold_link,
        _precharge,
        ("precharge_link_high",),
        ("before",),
        "pack",
        "close",
    ),
    Kind(
        "precharge_shorted",
        "the precharge resistor is bridged",
        _bridge_resistor,
        _precharge,
        ("precharge_fast",),
        ("before",),
        "pack",
        "close",
        strings=(1,),  # the first one charges the link for all
    ),
    Kind(
        "precharge_open",
        "the precharge resistor is open",
        _no_resistor,
        _precharge,
        ("precharge_failed",),
        ("before",),
        "pack",
        "close",
    ),
    Kind(
        "interlock",
        "the interlock loop opens",
        _line(INTERLOCK),
        _at_once,
        ("interlock",),
        scope="pack",
    ),
    Kind(
        "emergency_stop",
        "the emergency stop is pressed",
        _line(ESTOP),
        _at_once,
        ("emergency_stop",),
        scope="pack",
    ),
    Kind(
        "fault_line",
        "the slaves' fault line",
        _line(FAULT_LINE),
        _at_once,
        ("fault_line",),
        scope="pack",
    ),
    Kind(
        "current_silent",
        "the current sensor falls silent",
        _no_current,
        lambda t: t.config.current_age_ms + 2 * TICK_MS,
        ("current_lost",),
    ),
    Kind(
        "current_frozen",
        "the current sensor freezes",
        _frozen,
        lambda t: t.config.current_frozen_ms + 5 * SWING_US / 1000 * 2,
        ("current_frozen",),
        LOADED,
        settings={"current_frozen": "2 s"},
        prepare=_swing,
    ),
    Kind(
        "current_disagrees",
        "one of two current sensors shows a tenth",
        _wrong_gain,
        lambda t: t.config.current_disagree_delay_ms + 2 * t.scan_ms + 2 * TICK_MS,
        ("current_disagree",),
        LOADED,
        links=("can",),
        setup={"ivt_s": True},
    ),
    Kind(
        "current_reversed",
        "a current sensor mounted the wrong way round",
        lambda t: None,
        _reversed_ms,
        ("current_reversed",),
        LOADED,
        prepare=_swings(LONG_SWING_US),
        before_boot=_reverse,
        never=("current_frozen", "current_disagree"),
        twin_us=7_000_000,
    ),
    Kind(
        "range_lost",
        "large range of a two-range Hall sensor lost, current beyond the small one",
        _lose_range_loaded,
        _lost_current,
        ("current_lost", "current_sensor_error"),
        CLOSED,
        setup={"hall": True},
        never=("current_disagree",),
    ),
    Kind(
        "range_lost_small_load",
        "large range of a two-range Hall sensor lost, current within the small one",
        _lose_range,
        lambda t: 1000 + t.config.current_age_ms + 3 * TICK_MS,
        ("current_sensor_lost",),
        outcome="reported",
        setup={"hall": True},
    ),
    Kind(
        "charger_lag",
        "no fault: a charger follows the charge limit late, cells nearly full",
        lambda t: None,
        lambda t: 0,
        moments=("before", "precharge", "closed"),
        outcome="nothing",
        varied=_nearly_full,
        twin_us=40_000_000,
        prepare=_charge_late,
    ),
    Kind(
        "current_while_open",
        "a current while all is open",
        _flowing,
        lambda t: t.config.current_open_delay_ms + t.config.feedback_delay_ms + 4 * TICK_MS,
        ("current_while_open",),
        ("before", "opening"),
        since="off",
        outcome="latched",
        settings={"open_wait": "1 s"},  # the current that it shows seems to be one
    ),
    Kind(
        "config_corrupted",
        "the settings' file is damaged",
        lambda t: None,
        lambda t: 0,
        moments=("before",),
        scope="pack",
        outcome="config_error",
        before_boot=_corrupt,
    ),
    Kind(
        "power_cut",
        "power lost while the memory is written",
        _mark_and_trip,
        lambda t: 0,
        scope="pack",
        outcome="starts_whole",
        setup={"store": True},
        settings={"store_soon": "200 ms", "store_rest": "200 ms", "store_period": "1 s"},
        broken=_broken("power"),
    ),
    Kind(
        "exception",
        "a stage of the firmware raises",
        _mark,
        _at_once,
        scope="pack",
        outcome="program_ends",
        broken=_broken("raise"),
    ),
    Kind(
        "hang",
        "a stage of the firmware hangs",
        _mark,
        lambda t: HEARTBEAT_US / 1000,
        scope="pack",
        outcome="supervisor_opens",
        broken=_broken("hang"),
    ),
    Kind(
        "stage_skipped",
        "a stage is not run any more",
        _mark,
        lambda t: HEARTBEAT_US / 1000,
        scope="pack",
        outcome="supervisor_opens",
        broken=_skipped,
    ),
    Kind(
        "heap_full",
        "no heap is left, then a cell too high",
        _mark_and_high,
        _hard,
        ("cell_hard_high",),
        since="frame",
        broken=_broken("heap"),
    ),
    Kind(
        "console_flood",
        "the console is flooded, then a cell too high",
        _mark_and_high,
        _hard,
        ("cell_hard_high",),
        since="frame",
        broken=_broken("flood"),
    ),
    Kind(
        "console_deaf",
        "nobody reads the serial port, then a cell too high",
        _mark_and_high,
        _hard,
        since="frame",
        broken=_broken("deaf"),
    ),
)
BY_NAME = {kind.name: kind for kind in KINDS}
