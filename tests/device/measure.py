"""Figures of the firmware on the emulated Pico, in simulated time: `make device IMAGE=..`.

Each figure is printed beside its bound; exit code 1 where one is missed. The reaction is taken at
many moments: the emulator is forked at each, and the copy gets a violation that the original
never sees. Telemetry runs as it does by default, the store has its files, and somebody types
commands all the time.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from world import COILS, START, EmulatedWorld

from bms.config import pack_file
from bmssim import protocol, scenario
from bmssim.bus import CanBus
from bmssim.process import INTERLOCK
from bmssim.setup import Setup
from emulated import STACK_BYTES

SETTINGS = {
    "link_sensor": False,
    "precharge_unproven": True,
    "current_sensor": False,
    "precharge_max": "400 ms",
    "contactor_settle": "50 ms",
}
VIOLATION_MV = 3900
STEP_US = 9_700  # from one moment to the next; no divisor of any of the firmware's periods
LOAD_S = 10
GIVE_UP_US = 600_000
CUT_US = 3_000  # by then all coils are off, or never
CUT_BOUND_US = 200
FOUND_S = 2.0
STACK_MOMENTS = 40
STACK_LONG = 4  # at each so-manieth of them until events and freeze frame are stored, too
FRAME_NS = 400_000  # so long after a frame the interrupt that takes it is over

TYPE_US = 400_000  # from one command to the next
COMMANDS = ("status", "cells", "faults", "history", "limits", "balance")
SIZES = (1, 4, 8, 16)  # boards of 16 cells
FEW = 100  # moments where the worst of 1,000 isn't asked for
CAN_MS = 1.5  # bound of the reaction
ERASE_MS = 45  # of a sector of 4 KB, typical: W25Q16JV data sheet, 9.6

# a main.py that times the steps of the cycle, and prints all on `service`
TIMED = b"""
from time import ticks_diff, ticks_us
from array import array
times = array("H", bytearray(4000))
count = tested = 0
def step(self):
    global count, tested
    testing = self._testing
    start = ticks_us()
    inner(self)
    if count < 2000:
        us = ticks_diff(ticks_us(), start)
        times[count] = us if us < 65535 else 65535
        count += 1
        if testing:
            tested = count
import main
settings = main._settings
def timed(board):
    global inner
    out = settings(board)  # first: what reads a pack file needs the room that the rest takes
    from bms.master import Master
    inner = Master.step
    Master.step = step
    return out
main._settings = timed
main.main()
print("tested", tested)
for i in range(count):
    print("us", times[i])
"""


class Bench:
    """One booted world, its contactors closed."""

    def __init__(
        self,
        setup: Setup,
        folder: Path,
        extra: dict[str, bytes] | None = None,
        settings: dict[str, object] | None = None,
    ) -> None:
        pack = folder / "pack.toml"
        pack.write_text(scenario.pack_text(setup, {**SETTINGS, **(settings or {})}))
        c = pack_file.load(str(pack))
        bounds = (c.cell_hard_min_mv, c.cell_hard_max_mv, c.temp_hard_max_dc)  # type: ignore[attr-defined]
        self.setup = setup
        self.world = EmulatedWorld(setup, pack, bounds)
        self.world.extra_files = extra or {}
        self.text = bytearray()
        self.world.on_bytes = self.text.extend
        self.world.boot()
        self._typed = 0

    def types(self) -> None:
        """From now on somebody types commands."""
        pico = self.world.pico
        assert pico is not None

        def next_one() -> None:
            self.world.type(COMMANDS[self._typed % len(COMMANDS)])
            self._typed += 1
            alarm.schedule(TYPE_US * 1000)

        alarm = pico.clock.create_alarm(next_one)
        alarm.schedule(TYPE_US * 1000)

    def memory(self) -> dict:
        """What `version` says of the heap; with the contactors closed it says what it said last."""
        count = self.count("mem")
        self.world.type("version")
        if not self.run_until(lambda: self.count("mem") > count, 1_000_000):
            sys.exit("no answer to version: " + self.text.decode()[-400:])
        return self.line("mem")

    def lost(self) -> int:
        """Frames lost anywhere since the start."""
        status = self.line("status")
        lost = status["damaged"] + status["missed"] + status["dropped"]
        if isinstance(self.world.bus, CanBus):
            lost += self.world.controller.chip.overflowed
        return lost

    def count(self, kind: str) -> int:
        return sum(x["k"] == kind for x in self.world.seen.lines)

    def line(self, kind: str) -> dict:
        return next((x for x in reversed(self.world.seen.lines) if x["k"] == kind), {})

    def run_until(self, done: Callable[[], bool], within_us: int, step_us: int = 5_000) -> bool:
        end = self.now_us + within_us
        while not done() and self.now_us < end:
            self.world.run(self.now_us + step_us)
        return done()

    @property
    def now_us(self) -> int:
        assert self.world.pico is not None
        return self.world.pico.now_us

    def found_us(self) -> int:
        """Time from power-on to the first answer that says that every slave is known."""
        while True:
            if self.line("boot"):
                self.world.type("status")
            self.run_until(lambda: False, 40_000)
            if self.line("status").get("known") == self.setup.slaves:
                return self.line("status")["t_ms"] * 1000 + self._boot_us()
            if self.now_us > 6_000_000:
                sys.exit("not all slaves were found in 6 s: " + self.text.decode()[-400:])

    def tested_us(self) -> int:
        """Time from power-on to the end of the self-test: from here on, contactors may close."""

        def ended() -> bool:
            return self.line("boot").get("self_test", "running") != "running"

        if not self.run_until(ended, 9_000_000):
            sys.exit("the self-test does not end: " + self.text.decode()[-400:])
        if self.line("boot")["self_test"] != "ok":
            sys.exit(f"the self-test failed: {self.line('boot')}")
        return self.line("boot")["t_ms"] * 1000 + self._boot_us()

    def _boot_us(self) -> int:
        """What passed before the firmware's own clock began."""
        return self.now_us - self._last_t_us

    @property
    def _last_t_us(self) -> int:
        return self.world.seen.lines[-1]["t_ms"] * 1000

    def close(self) -> None:
        self.tested_us()
        self.run_until(lambda: False, 300_000)  # two scans
        self.world.type("close")
        if not self.run_until(lambda: self.line("contactor").get("state") == "closed", 3_000_000):
            lines = [x for x in self.world.seen.lines if x["k"] in ("answer", "contactor", "event")]
            sys.exit(f"the contactors do not close: {lines}")


def processor_share(bench: Bench, seconds: float) -> float:
    """Share of the time in which the processor does not wait for an interrupt, 0..1."""
    pico = bench.world.pico
    assert pico is not None
    seen = [0, 0]

    def look() -> None:
        seen[0] += 1
        seen[1] += not pico.mcu.core.waiting
        alarm.schedule(random.uniform(200_000, 600_000))  # often: 25,000 looks make 0.3 points

    alarm = pico.clock.create_alarm(look)
    alarm.schedule(1000)
    bench.world.run(bench.now_us + round(seconds * 1e6))
    alarm.cancel()
    return seen[1] / seen[0]


def react(bench: Bench, moment: int) -> float:
    """One violation from here on; ms from its last bit on the bus to the plus coil's pin."""
    rng = random.Random(moment)
    world = bench.world
    bench.world.run(bench.now_us + rng.randrange(0, STEP_US))
    world.seen.coil_off_after_us.clear()
    world.bus.usage.violation_us = None
    at_us: list[int] = []
    if moment % 2:
        cell = rng.randrange(bench.setup.slaves * bench.setup.cells)
        world.cells.override_v[cell] = VIOLATION_MV / 1000
    else:
        # an ALARM comes whenever it likes
        node = rng.randrange(bench.setup.slaves) + 1
        frame = protocol.alarm_frame(node, 1, 1 + rng.randrange(4), VIOLATION_MV, 0)
        chip = world.controller.chip
        receive = chip.receive

        def seen(ident: int, data: bytes) -> None:
            if ident == frame.ident:
                at_us.append(bench.now_us)
            receive(ident, data)

        chip.receive = seen
        world.synchronise()
        assert isinstance(world.bus, CanBus)
        world.bus.send(frame, _Nobody())
        world.arm()
    bench.run_until(lambda: bool(world.seen.coil_off_after_us), GIVE_UP_US, 2_000)
    if not at_us and world.bus.usage.violation_us is not None:
        at_us.append(world.bus.usage.violation_us)
    if not at_us or not world.seen.coil_off_after_us:
        return float("inf")
    return (world.seen.coil_off_after_us[0] - at_us[0]) / 1000


def cut(bench: Bench, moment: int) -> float:
    """The interlock loop opens; us from the edge at its pin to the last coil's pin being low.

    At every second moment shortly after a CAN frame, within the interrupt that takes it.
    """
    rng = random.Random(moment)
    world = bench.world
    pico = world.pico
    assert pico is not None
    clock = pico.clock
    world.run(bench.now_us + rng.randrange(0, STEP_US))
    edge_at: list[float] = []
    low_at = [0.0]
    pins = [pico.mcu.gpio[number] for number in COILS[: 3 * world.setup.strings]]

    def changed(_new: object, _old: object) -> None:
        low_at[0] = clock.nanos

    def opens() -> None:
        edge_at.append(clock.nanos)
        low_at[0] = clock.nanos
        for pin in pins:
            pin.add_listener(changed)
        world.set_lines(INTERLOCK, False)

    alarm = clock.create_alarm(opens)
    if moment % 2:
        alarm.schedule(1000)
    else:
        chip = world.controller.chip
        receive = chip.receive

        def seen(ident: int, data: bytes) -> None:
            receive(ident, data)
            if not edge_at:
                alarm.cancel()
                alarm.schedule(rng.randrange(FRAME_NS))

        chip.receive = seen
    bench.run_until(lambda: bool(edge_at), GIVE_UP_US, 1_000)
    world.run(bench.now_us + CUT_US)
    if not edge_at or any(int(pin.value) == 1 for pin in pins):
        return float("inf")
    return (low_at[0] - edge_at[0]) / 1000


class _Nobody:
    """A board that sends one frame and receives none."""

    def on_frame(self, frame: protocol.Frame) -> None: ...
    def on_sent(self, frame: protocol.Frame) -> None: ...


def reactions(
    bench: Bench, count: int, workers: int, one: Callable[[Bench, int], float] = react
) -> list[float]:
    """`one` at `count` moments, each in a copy of this process."""
    out: list[float] = []
    running: list[tuple[int, int]] = []

    def collect() -> None:
        pid, fd = running.pop(0)
        with os.fdopen(fd) as pipe:
            out.append(float(pipe.read() or "inf"))
        os.waitpid(pid, 0)

    started = time.monotonic()
    for moment in range(count):
        bench.world.run(bench.now_us + STEP_US)
        if len(running) >= workers:
            collect()
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.write(write, f"{one(bench, moment):.3f}".encode())
                status = 0
            finally:
                os._exit(status)
        os.close(write)
        running.append((pid, read))
        if (moment + 1) % 50 == 0:
            worst = f"{max(out):.2f}" if out else "-"
            left = (time.monotonic() - started) / (moment + 1) * (count - moment - 1)
            print(
                f"  {one.__name__}: {moment + 1} of {count} moments, worst so far {worst},"
                f" about {left:.0f} s left",
                file=sys.stderr,
            )
    while running:
        collect()
    return out


class Table:
    """Rows of name, figure, bound."""

    def __init__(self) -> None:
        self.missed = 0

    def row(self, name: str, value: float, unit: str, bound: float | None = None) -> None:
        text = f"{name:<54} {value:10.2f} {unit}"
        if bound is not None:
            good = value <= bound
            self.missed += not good
            text += f"   at most {bound:g}: {'yes' if good else 'MISSED'}"
        print(text, flush=True)


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def cuts(table: Table, folder: Path, count: int) -> Bench:
    """Rows of the interlock, with the economiser's PWM and at full voltage; returns the latter."""
    for name, more in (("PWM", {"coil_hold": "40 %"}), ("full voltage", {})):
        bench = Bench(Setup(), folder, settings={"interlock": True, **more})
        bench.close()
        bench.types()
        bench.run_until(lambda: False, 500_000)  # `coil_pull_in` is over
        figures = reactions(bench, count, os.cpu_count() or 1, cut)
        table.row(f"interlock to coils off, {name}, median", percentile(figures, 0.5), "us")
        table.row(f"interlock to coils off, {name}, worst", max(figures), "us", CUT_BOUND_US)
    return bench


def erases(table: Table, folder: Path) -> None:
    """The interlock while flash is erased; closed, that needs `store_while_closed`."""
    settings = {"interlock": True, "store_period": "100 ms", "store_while_closed": True}
    bench = Bench(Setup(), folder, settings=settings)
    bench.close()
    world = bench.world
    pico = world.pico
    assert pico is not None
    bench.run_until(lambda: False, 300_000)
    clock = pico.clock
    edge_at: list[float] = []
    low_at = [0.0]
    pins = [pico.mcu.gpio[number] for number in COILS[: 3 * world.setup.strings]]

    def changed(_new: object, _old: object) -> None:
        low_at[0] = clock.nanos

    def opens() -> None:
        edge_at.append(clock.nanos)
        for pin in pins:
            pin.add_listener(changed)
        world.set_lines(INTERLOCK, False)

    def low() -> bool:
        return bool(edge_at) and all(int(pin.value) == 0 for pin in pins)

    pico.slow_erase(ERASE_MS, opens)
    bench.run_until(low, GIVE_UP_US, 1_000)
    world.run(bench.now_us + CUT_US)
    took = (low_at[0] - edge_at[0]) / 1e6 if low() else float("inf")
    table.row("the same as an erase of flash begins", took, "ms", ERASE_MS + CUT_US / 1000)
    print(
        f"  An erase of {ERASE_MS} ms stops all interrupts, as on a chip (up to 400 ms there):\n"
        "  the hardware alone guards the loops meanwhile. While coils are on nothing is written\n"
        "  where a guarded input is configured, unless `store_while_closed` is set, as here."
    )


def stack(table: Table, bench: Bench) -> None:
    """Bytes of the C stack at a trip, with an interlock interrupt on top."""
    table.row(
        "C stack at a trip and a cut at once",
        max(reactions(bench, STACK_MOMENTS, os.cpu_count() or 1, deepest)),
        "B",
        STACK_BYTES * 8 // 10,
    )


def deepest(bench: Bench, moment: int) -> float:
    """Bytes of the stack in use at most around a trip; the interlock opens within it."""
    pico = bench.world.pico
    assert pico is not None
    rng = random.Random(moment)
    pico.fill_stack()
    bench.world.run(bench.now_us + rng.randrange(0, STEP_US))
    cell = rng.randrange(bench.setup.slaves * bench.setup.cells)
    bench.world.cells.override_v[cell] = VIOLATION_MV / 1000
    usage = bench.world.bus.usage
    usage.violation_us = None
    bench.run_until(lambda: usage.violation_us is not None, GIVE_UP_US, 100)
    bench.world.run(bench.now_us + rng.randrange(0, 1500))
    bench.world.set_lines(INTERLOCK, False)
    bench.world.run(bench.now_us + (100_000 if moment % STACK_LONG else 1_200_000))
    return pico.stack_used()


def load(table: Table, bench: Bench, name: str, share_bound: float | None) -> None:
    """Rows of a closed pack in ten seconds: processor, allocation, frames."""
    bench.close()
    bench.types()
    before = bench.line("mem")
    lost = bench.lost()
    share = processor_share(bench, LOAD_S)
    table.row(f"processor's share, {name}", share * 100, "%", share_bound)
    bench.run_until(lambda: False, 1_100_000)  # a status line
    table.row(f"frames lost, {name}", bench.lost() - lost, "", 0)
    if share_bound is None or before.get("heap_used") is None:
        return
    # the heap is walked through with the contactors open only: it takes 17 ms
    bench.world.type("open")
    bench.run_until(lambda: False, 100_000)
    after = bench.memory()
    cycles = after["cycles"] - before["cycles"]
    grown = after["heap_used"] - before["heap_used"]
    table.row(f"bytes allocated per cycle, {name}", grown / cycles, "B", 0)
    bench.run_until(lambda: False, 5_200_000)  # `reclose`
    bench.close()


def reaction(table: Table, bench: Bench, name: str, count: int, bound: float | None) -> None:
    """Rows of the reaction to a hard bound."""
    figures = reactions(bench, count, os.cpu_count() or 1)
    table.row(f"reaction, {name}, median of {len(figures)}", percentile(figures, 0.5), "ms")
    table.row(f"reaction, {name}, 99 of 100", percentile(figures, 0.99), "ms")
    table.row(f"reaction, {name}, worst", max(figures), "ms", bound)


def start(table: Table, setup: Setup, folder: Path, name: str) -> tuple[Bench, float]:
    """A booted world, and KiB of heap that it takes."""
    bench = Bench(setup, folder)
    table.row(f"start to all slaves found, {name}", bench.found_us() / 1e6, "s", FOUND_S)
    table.row(f"start to the end of the self-test, {name}", bench.tested_us() / 1e6, "s")
    memory = bench.memory()
    table.row(f"heap free after start, {name}", memory["heap_free"] / 1024, "KiB")
    return bench, memory["heap_used"] / 1024


def timed(table: Table, folder: Path) -> None:
    """Rows of the cycle's steps."""
    bench = Bench(Setup(), folder, {"timed.py": TIMED, "main.py": START % b"timed"})
    bench.tested_us()
    bench.run_until(lambda: False, 3_000_000)
    bench.world.type("service yes")
    bench.run_until(lambda: b">>> " in bench.text, 20_000_000, 50_000)
    lines = bench.text.splitlines()
    steps = [int(x[3:]) / 1000 for x in lines if x.startswith(b"us ")]
    tested = next((int(x[7:]) for x in lines if x.startswith(b"tested ")), 0)
    if not 0 < tested < len(steps):
        sys.exit("no times of the cycle's steps: " + bench.text.decode()[-400:])
    # nothing is closed while the self-test runs, and nothing closes
    table.row("step of the cycle, longest with the self-test", max(steps[:tested]), "ms")
    table.row("step of the cycle, median", percentile(steps[tested:], 0.5), "ms")
    table.row("step of the cycle, longest", max(steps[tested:]), "ms")


def sizes(table: Table, folder: Path, moments: int) -> None:
    """Rows of packs of 16 to 256 cells on CAN, and of one on UART."""
    heap: dict[int, float] = {}
    for slaves in SIZES:
        cells = 16 * slaves
        name = f"{cells} cells"
        bench, heap[cells] = start(table, Setup(slaves=slaves), folder, name)
        if cells == 64:
            table.row("heap used, all from .mpy, 64 cells", heap[64], "KiB", 190)
        if cells == 256:
            table.row("heap used, 256 cells more than 64", heap[256] - heap[64], "KiB", 12)
        load(table, bench, name, {64: 25, 256: 60}.get(cells))
        bound = CAN_MS if cells == 64 else None
        reaction(table, bench, name, moments if cells == 64 else min(moments, FEW), bound)
    bench, _ = start(table, Setup(link="uart"), folder, "64 cells on UART")
    load(table, bench, "64 cells on UART", None)
    reaction(table, bench, "64 cells on UART", min(moments, FEW), None)


def frozen(table: Table, folder: Path, image: Path, moments: int) -> None:
    """Rows of an image that holds the firmware."""
    stock = EmulatedWorld.image
    EmulatedWorld.image = image
    EmulatedWorld.frozen = True
    try:
        bench, heap = start(table, Setup(), folder, "frozen")
        table.row("heap used, frozen, 64 cells", heap, "KiB", 80)
        load(table, bench, "frozen", 25)
        reaction(table, bench, "frozen", min(moments, FEW), CAN_MS)
    finally:
        EmulatedWorld.image = stock
        EmulatedWorld.frozen = False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", required=True, type=Path, help="MicroPython's RPI_PICO .uf2")
    parser.add_argument("--frozen", type=Path, help="the same with the firmware frozen into it")
    parser.add_argument("--moments", type=int, default=1000)
    parser.add_argument("--cuts", action="store_true", help="the interlock's figures only")
    args = parser.parse_args()
    for image in (args.image, args.frozen):
        if image is not None and not image.is_file():
            parser.error(f"no image {image}")
    if args.moments < 1:
        parser.error("--moments must be 1 or more")
    if args.cuts and args.frozen is not None:
        parser.error("--cuts takes no --frozen: its figures are the interlock's only")
    EmulatedWorld.image = args.image
    random.seed(1)
    table = Table()
    print(f"RP2040 at 125 MHz, emulated; {args.image.name}; boards of 16 cells, on CAN", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bench = cuts(table, folder, args.moments)
        if not args.cuts:
            stack(table, bench)
        erases(table, folder)
        if not args.cuts:
            sizes(table, folder, args.moments)
            timed(table, folder)
            if args.frozen is not None:
                frozen(table, folder, args.frozen, args.moments)
    return 1 if table.missed else 0


if __name__ == "__main__":
    sys.exit(main())
