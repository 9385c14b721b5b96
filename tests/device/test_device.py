"""The firmware on an emulated Pico, and the same scenarios on the HOST board.

The emulated board runs about twenty times slower than real time while it starts, and needs
`--image`. Tests that use the same board start it once, and each goes on with a copy of it.
"""

import functools
import hashlib
import os
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from world import COILS, INPUTS, PWM_FUNCTION, START, EmulatedWorld

from bmsctl import board_files, pack_copies, slots
from bmssim import scenario
from bmssim.process import ESTOP, FAULT_LINE, INTERLOCK
from bmssim.setup import Setup
from bmssim.world import World
from emulated import STACK_BYTES

SCENARIOS = sorted((Path(__file__).parent / "scenarios").glob("*.toml"))
LINKS = ("can", "uart")
UART_REACTION_MS = 2  # as bmssim's scenarios; the bound of docs/benchmarks.md is for CAN
SETTINGS = {
    "link_sensor": False,
    "precharge_unproven": True,
    "current_sensor": False,
    "precharge_max": "400 ms",
    "contactor_settle": "50 ms",
}


@pytest.fixture(params=["HOST", "RPI_PICO"])
def board(request: pytest.FixtureRequest) -> type[World]:
    """The world of each board."""
    if request.param == "HOST":
        return World
    EmulatedWorld.image = request.getfixturevalue("image")
    return EmulatedWorld


@pytest.fixture(scope="session")
def pico(image: Path, tmp_path_factory: pytest.TempPathFactory) -> "Pico":
    """A booted board of all tests that are marked with `in_a_copy`."""
    EmulatedWorld.image = image
    pico = Pico(tmp_path_factory.mktemp("pico"))
    pico.booted()
    return pico


@pytest.fixture(scope="session")
def guarded(
    request: pytest.FixtureRequest, image: Path, tmp_path_factory: pytest.TempPathFactory
) -> "Pico":
    """The same with all loops; the parameter is its `coil_hold`."""
    EmulatedWorld.image = image
    loops = dict.fromkeys(("interlock", "emergency_stop", "fault_line"), True)
    settings = {**loops, "coil_hold": request.param, "reclose": "0 ms"}
    pico = Pico(tmp_path_factory.mktemp("guarded"), settings)
    pico.booted()
    return pico


def in_a_copy(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test in a copy of this process: the board that it gets stays as it was."""

    @functools.wraps(test)
    def run(**given: object) -> None:
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            said = "ended early"
            try:
                os.close(read)
                test(**given)
                said = ""
            except BaseException:
                said = traceback.format_exc()
            finally:
                with os.fdopen(write, "w") as pipe:
                    pipe.write(said)
                os._exit(bool(said))
        os.close(write)
        with os.fdopen(read) as pipe:
            said = pipe.read()
        if os.waitpid(pid, 0)[1]:
            pytest.fail(said, pytrace=False)

    # Python 3.12 warns of threads that a copy lacks; it needs none
    return pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")(run)


class Pico:
    """A booted emulated board; `text` is what its console said."""

    def __init__(
        self, folder: Path, settings: dict[str, object] | None = None, **files: bytes
    ) -> None:
        setup = Setup()
        pack = folder / "pack.toml"
        pack.write_text(scenario.pack_text(setup, {**SETTINGS, **(settings or {})}))
        self.world = EmulatedWorld(setup, pack, (2000, 3750, 700))
        self.world.extra_files = {
            name if "." in name else name.replace("_", "."): data for name, data in files.items()
        }
        self.text = bytearray()
        self.world.on_bytes = self.text.extend
        self.world.boot()

    def sha(self, path: str) -> str:
        """SHA-256 of a file of the firmware."""
        data = board_files.compiled(board_files.load("RPI_PICO"))[path]
        return hashlib.sha256(data).hexdigest()

    @property
    def now_us(self) -> int:
        assert self.world.pico is not None
        return self.world.pico.now_us

    def run(self, seconds: float) -> None:
        self.world.run(self.now_us + round(seconds * 1e6))

    def lines(self, kind: str) -> list[dict]:
        return [x for x in self.world.seen.lines if x["k"] == kind]

    def booted(self) -> None:
        """The self-test has ended, and every slave was heard a moment later."""
        for _ in range(50):
            self.run(0.1)
            if [x for x in self.lines("boot") if x["self_test"] != "running"]:
                break
        self.run(0.5)

    def starts(self) -> int:
        """How often the firmware has started."""
        return sum(x["self_test"] == "running" for x in self.lines("boot"))

    def starts_again(self) -> None:
        """The firmware has started a second time, by itself, and went on for a moment."""
        for _ in range(100):
            self.run(0.1)
            if self.starts() > 1:
                break
        self.run(0.3)
        assert self.starts() == 2

    def closed(self) -> None:
        self.booted()
        self.world.type("close")
        self.run(0.8)
        assert self.lines("contactor")[-1]["state"] == "closed"


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("path", SCENARIOS, ids=lambda p: p.stem)
def test_scenario(path: Path, link: str, board: type[World], tmp_path: Path) -> None:
    chosen = scenario.load(str(path))
    if link == "uart" and "reaction_ms" in chosen.expect:
        chosen.expect["reaction_ms"] = UART_REACTION_MS
    setup = Setup(**{**chosen.setup, "link": link})
    run = scenario.Run(chosen, setup, tmp_path / "pack.toml", board)
    try:
        run.go()
        assert run.problems() == []
        if isinstance(run.world, EmulatedWorld) and link == "can":
            assert run.world.controller.chip.overflowed == 0
    finally:
        run.close()


@in_a_copy
def test_the_boot_line_and_the_self_test(pico: Pico) -> None:
    pico.booted()
    first, boot = pico.lines("boot")
    assert first["self_test"] == "running"
    assert boot["board"] == "RPI_PICO"
    assert boot["self_test"] == "ok"
    assert boot["t_ms"] > first["t_ms"]
    assert boot["native"] == 1


@in_a_copy
def test_service_gives_back_the_repl_with_the_contactors_open(pico: Pico) -> None:
    pico.closed()
    pico.world.type("service yes")
    pico.run(0.6)
    assert pico.lines("answer")[-1]["ok"] is True
    assert pico.world.plant.contactors["plus"].closed is False
    assert pico.text.endswith(b">>> ")
    # the watchdog goes on being fed, and the REPL answers, for longer than it would wait
    pico.run(3)
    pico.text.clear()
    pico.world.type("print(6 * 7)\r")
    pico.run(0.1)
    assert b"42" in pico.text


def test_a_refused_pack_file_is_said_and_the_board_stays_up(image: Path, tmp_path: Path) -> None:
    EmulatedWorld.image = image
    # pack file and copy as `bmsctl` leaves them; the ready one belongs to another pack file
    refused_pack = pack_copies.files(b"[pack]\nname = 5\n")
    pico = Pico(tmp_path, None, **{f"a/{name}": data for name, data in refused_pack.items()})
    for _ in range(80):  # for longer than the watchdog would wait
        pico.run(0.1)
        if pico.lines("config_error") and pico.lines("config_error")[-1]["t_ms"] > 3000:
            break
    refused = pico.lines("config_error")
    assert len(refused) >= 3
    assert refused[-1]["key"] == "name" and refused[-1]["line"] == 2
    assert refused[-1]["t_ms"] > 3000  # no watchdog in between
    assert pico.world.plant.supervisor_drops == 0
    assert pico.world.seen.damaged_lines == 0
    pico.world.type("service yes")
    pico.run(0.4)
    assert pico.text.endswith(b">>> ")


@in_a_copy
def test_the_list_that_flashing_requests(pico: Pico) -> None:
    pico.booted()
    pico.world.type("service yes")
    pico.run(0.6)
    pico.text.clear()
    assert pico.world.pico is not None
    # paste mode, in pieces that the port's buffer holds
    text = b"\x05" + slots.LIST.encode().replace(b"\n", b"\r") + b"\x04"
    for i in range(0, len(text), 200):
        pico.world.pico.type(text[i : i + 200])
        pico.run(0.05)
    for _ in range(60):
        pico.run(0.1)
        if b"\r\nend\r\n" in pico.text:
            break
    said = pico.text.replace(b"\r", b"").decode()
    there = slots.parse(said[said.index("\nfile ") + 1 :])
    running = there.running()
    assert running is not None and running.folder == "/a" and running.number == 1
    assert "RP2040" in there.machine and there.mpy & 0xFF == 6
    assert there.free > 500_000
    assert len(running.files) > 40
    assert running.files["main.mpy"] == pico.sha("main.mpy")


@in_a_copy
def test_ctrl_c_is_a_byte_like_others(pico: Pico) -> None:
    pico.closed()
    assert pico.world.pico is not None
    pico.world.pico.type(b"\x03\x03\x03")
    pico.run(0.5)
    assert pico.lines("contactor")[-1]["state"] == "closed"
    assert b">>>" not in pico.text


@in_a_copy
def test_reset_starts_again_and_closes_nothing(pico: Pico) -> None:
    pico.closed()
    pico.world.type("reset yes")
    pico.starts_again()
    assert pico.lines("contactor")[-1]["state"] == "open"
    assert pico.world.plant.is_closed is False


# runs beside the firmware: does %s in each tick; `count` is the number of ticks with a coil on, so
# that the self-test may take as long as it does
BESIDE = b"""
import main
from bms.protection.limits import Limits
inner = Limits.check_ages
count = 0
def check_ages(self, now):
    global count, kept
    count += self._strings.energised()
    %s
    inner(self, now)
Limits.check_ages = check_ages
main.main()
"""


def test_a_program_that_hangs_is_reset_by_the_watchdog(image: Path, tmp_path: Path) -> None:
    EmulatedWorld.image = image
    hang = b"while count > 60: pass"
    pico = Pico(tmp_path, main_py=START % b"hang", hang_py=BESIDE % hang)
    pico.closed()
    pico.starts_again()
    assert pico.world.plant.is_closed is False
    # long before the watchdog, the heartbeat's absence took the coils' supply
    assert pico.world.plant.supervisor_drops == 1


def test_an_exception_leaves_the_coils_off_and_starts_again(image: Path, tmp_path: Path) -> None:
    EmulatedWorld.image = image
    breaks = b"if count > 60: raise ValueError('on purpose')"
    pico = Pico(tmp_path, main_py=START % b"breaks", breaks_py=BESIDE % breaks)
    pico.closed()
    pico.run(1.5)
    assert b"on purpose" in pico.text
    assert pico.world.plant.is_closed is False
    pico.starts_again()
    assert pico.world.plant.is_closed is False


def test_an_allocation_in_the_cycle_warns_and_opens_nothing(image: Path, tmp_path: Path) -> None:
    EmulatedWorld.image = image
    takes = b"if count == 60: kept = [1, 2, 3]"
    pico = Pico(tmp_path, main_py=START % b"takes", takes_py=BESIDE % takes)
    pico.closed()
    pico.run(1.5)
    assert [x["name"] for x in pico.lines("event")] == ["memory_error"]
    assert pico.lines("contactor")[-1]["state"] == "closed"
    assert pico.world.plant.is_closed
    assert pico.world.plant.supervisor_drops == 0


@pytest.mark.parametrize("guarded", ["100 %"], indirect=True)
@in_a_copy
def test_the_stack_at_a_trip_with_a_cut_on_top(guarded: Pico) -> None:
    pico = guarded
    pico.closed()
    assert pico.world.pico is not None
    pico.world.pico.fill_stack()
    pico.world.bus.usage.violation_us = None
    pico.world.cells.override_v[5] = 3.9
    for _ in range(3000):
        pico.run(0.0001)
        if pico.world.bus.usage.violation_us is not None:
            break
    pico.run(0.0005)
    pico.world.set_lines(INTERLOCK, False)
    pico.run(1)
    assert pico.world.plant.is_closed is False
    assert {x["name"] for x in pico.lines("event")} >= {"cell_hard_high", "interlock"}
    assert 1000 < pico.world.pico.stack_used() <= STACK_BYTES * 8 // 10


@in_a_copy
def test_a_chip_that_loses_its_supply_for_a_moment(pico: Pico) -> None:
    pico.closed()
    pico.world.controller.chip.brown_out()
    pico.run(1)
    assert pico.lines("contactor")[-1]["state"] == "closed"
    assert pico.lines("status")[-1]["trips"] == 0


@in_a_copy
def test_a_chip_that_dies_opens(pico: Pico) -> None:
    pico.closed()
    pico.world.controller.chip.dead = True
    pico.run(1)
    assert pico.world.plant.is_closed is False
    trips = [x for x in pico.lines("event") if x["level"] == "trip"]  # warnings of age come first
    assert trips[0]["name"] == "cell_lost"


@in_a_copy
def test_a_host_that_holds_the_port_and_does_not_read(pico: Pico) -> None:
    assert pico.world.pico is not None
    pico.closed()
    beats = len(pico.world.seen.coil_off_after_us)
    pico.world.pico.reading(False)
    start = len(pico.text)
    pico.run(3)
    stalled = len(pico.text) - start
    pico.world.cells.override_v[5] = 3.9
    pico.run(0.3)
    # it is evaluated, and it opens, as ever; the heartbeat never missed its 0.3 s
    assert len(pico.world.seen.coil_off_after_us) == beats + 1
    assert pico.world.plant.supervisor_drops == 0
    pico.world.pico.reading(True)
    pico.run(1.5)
    assert pico.lines("status")[-1]["dropped"] > 0
    assert pico.lines("status")[-1]["first"] == "cell_hard_high"
    assert stalled < 200
    assert pico.world.seen.damaged_lines == 0


class Edge:
    """Opens a loop; `us` from its edge until the last coil's pin was low for good."""

    def __init__(self, pico: Pico, line: int) -> None:
        assert pico.world.pico is not None
        self.clock = pico.world.pico.clock
        pins = [pico.world.pico.mcu.gpio[number] for number in COILS[:3]]
        assert any(int(pin.value) == 1 for pin in pins) or pins[2].function_select == PWM_FUNCTION
        self._start = self._last = self.clock.nanos
        for pin in pins:
            pin.add_listener(self._changed)
        pico.world.set_lines(line, False)
        pico.run(0.003)
        assert all(int(pin.value) == 0 for pin in pins)
        self.us = (self._last - self._start) / 1000

    def _changed(self, _new: object, _old: object) -> None:
        self._last = self.clock.nanos


@pytest.mark.parametrize(
    ("line", "key", "guarded"),
    [
        (INTERLOCK, "interlock", "100 %"),
        (ESTOP, "emergency_stop", "40 %"),
        (FAULT_LINE, "fault_line", "40 %"),
    ],
    indirect=["guarded"],
)
@in_a_copy
def test_a_loop_that_opens_cuts_within_its_interrupt(guarded: Pico, line: int, key: str) -> None:
    pico = guarded
    pico.closed()
    pico.run(0.4)  # the economiser's turn
    assert pico.world.pico is not None
    gpio = pico.world.pico.mcu.gpio
    assert (gpio[COILS[2]].function_select == PWM_FUNCTION) is (line != INTERLOCK)
    assert pico.world.plant.is_closed
    assert Edge(pico, line).us < 1000
    pico.run(0.3)
    assert pico.world.plant.is_closed is False
    assert pico.lines("event")[0]["name"] == key
    # nothing closes until the loop is whole and a person has said so
    pico.world.set_lines(line, True)
    pico.run(0.2)
    pico.world.type("close")
    pico.run(0.5)
    assert pico.world.plant.is_closed is False
    pico.world.type("clear")
    pico.run(0.3)
    pico.world.type("close")
    pico.run(1)
    assert pico.world.plant.is_closed


def test_a_broken_wire_at_the_start_closes_nothing(image: Path, tmp_path: Path) -> None:
    EmulatedWorld.image = image
    pico = Pico(tmp_path, {"interlock": True})
    assert pico.world.pico is not None
    pico.world.pico.pin(INPUTS[0], False)
    pico.booted()
    pico.world.type("close")
    pico.run(0.8)
    assert pico.lines("event")[0]["name"] == "interlock"
    assert pico.world.seen.coils == []


def test_a_damaged_file_fails_the_self_test(image: Path, tmp_path: Path) -> None:
    EmulatedWorld.image = image
    pico = Pico(tmp_path, None, **{"a/bms/console/config_error_mode.mpy": b"M\x06"})
    pico.booted()
    first, boot = pico.lines("boot")
    assert first["self_test"] == "running"
    assert boot["self_test"] == "a file of the firmware is damaged"
    assert [x["name"] for x in pico.lines("event")] == ["self_test"]
    pico.world.type("close")
    pico.run(0.8)
    assert pico.world.seen.coils == []


def test_nothing_closes_while_the_self_test_runs(image: Path, tmp_path: Path) -> None:
    EmulatedWorld.image = image
    pico = Pico(tmp_path)
    while pico.lines("status")[-1:] == [] or pico.lines("status")[-1]["known"] < 4:
        if pico.lines("boot"):  # what is typed earlier waits, and `close` behind it
            pico.world.type("status")
        pico.run(0.1)
        assert pico.now_us < 5_000_000
    assert [x["self_test"] for x in pico.lines("boot")] == ["running"]
    pico.run(0.2)  # two scans: every reading is there
    pico.world.type("close")
    answers: list[dict] = []
    for _ in range(10):  # behind the answers to `status`, and between the steps of the test
        pico.run(0.05)
        answers = [x for x in pico.lines("answer") if x["cmd"] == "close"]
        if answers:
            break
    assert [x["self_test"] for x in pico.lines("boot")] == ["running"]
    assert answers[0]["ok"] is False
    assert "self-test is running" in answers[0]["text"]
    pico.booted()
    assert pico.world.seen.coils == []
    pico.closed()


def test_why_it_started(image: Path, tmp_path: Path) -> None:
    EmulatedWorld.image = image
    body = b"""
import machine
from board import Board
cause = Board().reset_cause()
print("cause", cause)
if cause == b"power_on":
    machine.reset()
elif cause == b"reset":
    machine.WDT(timeout=200)
    while True:
        pass
print("end")
"""
    pico = Pico(tmp_path, main_py=START % b"causes", causes_py=body)
    for _ in range(40):
        pico.run(0.1)
        if b"end" in pico.text:
            break
    said = [line for line in pico.text.split(b"\r\n") if line.startswith(b"cause")]
    assert said == [b"cause b'power_on'", b"cause b'reset'", b"cause b'watchdog'"]
