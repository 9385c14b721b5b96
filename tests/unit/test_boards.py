"""Every microcontroller board through strict fakes of `machine`: pins, ports, watchdog, service."""

import sys

import fake_machine
from fake_machine import CAN, Pin, View

from bms import constructors, start_modules
from bms.links.can import BITS, EXTENDED
from fakes import raises
from mcp2515_chip import Mcp2515Chip
from mcp2518fd_chip import Mcp2518fdChip

# name, port of MicroPython, whether it has machine.CAN
BOARDS = (
    ("RPI_PICO", "rp2", False),
    ("RPI_PICO2", "rp2", False),
    ("NUCLEO_G474RE", "stm32", True),
    ("NUCLEO_H563ZI", "stm32", False),
    ("PYBV11", "stm32", True),
    ("ESP32_GENERIC_S3", "esp32", False),
)


def _board(name, port, with_can):
    state, module = fake_machine.load(name, port, with_can)
    if "hal.native_can" in sys.modules:
        sys.modules["hal.native_can"].memoryview = View
    return state, module, module.Board()


def _started(board):
    # a board frees modules and constructors that only the start needs; other tests need them
    kept = [(name, sys.modules[name]) for name in start_modules.MODULES if name in sys.modules]
    forget, constructors.forget = constructors.forget, lambda: None
    board.started()
    constructors.forget = forget
    for name, module in kept:
        package, last = name.rsplit(".", 1)
        setattr(sys.modules[package], last, module)
        sys.modules[name] = module


class _Wire:
    """An MCP2515 at the pins of a board."""

    def __init__(self, state, cs, irq):
        self.chip = Mcp2515Chip(self._send, self._changed)
        self.sent = []
        self._state = state
        self._irq = irq
        self._cs = cs

    def attach(self, spi):
        spi.chip = self
        pin = self._state.pins[self._cs]
        value = pin.value

        def selected(level=None):
            if level is None:
                return value()
            value(level)
            if level and self.chip.selected:
                self.chip.deselect()
            elif not level:
                self.chip.select()

        pin.value = selected
        pin.on = lambda: selected(1)
        pin.off = lambda: selected(0)

    def exchange(self, out):
        return self.chip.exchange(out)

    def _send(self, ident, data):
        self.sent.append((ident, data))

    def _changed(self, low):
        if self._irq in self._state.pins:
            self._state.pins[self._irq].drive(not low)


def _every_string(board):
    for which in range(3 * board.STRINGS):
        board.coil(which, 0)  # as the contactors do when they are built


def test_outputs_are_low_and_no_pin_has_two_uses():
    # the fake refuses a pin that is used already
    for name, port, with_can in BOARDS:
        state, module, board = _board(name, port, with_can)
        assert board.NAME == name
        assert len(_constant(module, "COILS")) == 3 * board.STRINGS
        _every_string(board)
        coils = [state.pins[p] for p in _constant(module, "COILS")]
        for pin in coils:
            assert pin.mode == Pin.OUT
            assert set(pin.history) == {0}, name
        for pin in _constant(module, "FEEDBACK"):
            assert state.pins[pin].mode == Pin.IN
            assert state.pins[pin].pull == Pin.PULL_UP
        for pin in _constant(module, "INPUTS"):
            assert state.pins[pin].mode == Pin.IN
            assert state.pins[pin].pull == Pin.PULL_DOWN  # a broken wire is bad
        for port_name in board.ports:
            if board.ports[port_name] == "uart" and port_name not in board.SHARED:
                board.open_uart(port_name, 115200)
        board.open_i2c("i2c0", 400000)
        assert state.watchdog is None
        assert board.self_test() == b"ok"
        coils[1].level = 1
        assert board.self_test() == b"coil output 2 is high"


def test_a_second_string_and_a_uart_never_share_a_pin():
    for name, port, with_can in BOARDS:
        _, _, board = _board(name, port, with_can)
        if not board.SHARED:
            continue
        _every_string(board)
        for port_name in board.SHARED:
            error = raises(ValueError, board.open_uart, port_name, 115200)
            assert port_name in str(error)
        # and the other way round: a UART that is open keeps its pins
        state, module, board = _board(name, port, with_can)
        assert board.STRINGS == 2
        for port_name in board.ports:
            if board.ports[port_name] == "uart":
                board.open_uart(port_name, 115200)
        assert board.STRINGS == 1
        raises(IndexError, board.coil, 3, 0)
        for pin in _constant(module, "COILS")[3:]:
            assert pin not in state.pins or state.pins[pin].mode != Pin.OUT or pin in (2, 8, 10, 14)


def _constant(module, name):
    if hasattr(module, name):
        return getattr(module, name)
    return getattr(sys.modules["pico"], name)


def _levels(state, module):
    return [state.pins[p].level for p in _constant(module, "COILS")]


def test_coils_feedback_and_safe():
    for name, port, with_can in BOARDS:
        state, module, board = _board(name, port, with_can)
        _every_string(board)
        n = 3 * board.STRINGS
        for which in range(n):
            board.coil(which, 1 if which & 1 else 1000)
            assert _levels(state, module) == [int(i == which) for i in range(n)]
            board.safe()
            assert _levels(state, module) == [0] * n
            pin = state.pins[_constant(module, "FEEDBACK")[which]]
            assert board.feedback(which) == 0  # an open contact leaves the pull-up alone
            pin.drive(0)
            assert board.feedback(which) == 1
        assert state.pwms == {}
        raises(IndexError, board.coil, n, 1000)


def test_the_economiser_takes_less_voltage():
    for name, port, with_can in BOARDS:
        state, module, board = _board(name, port, with_can)
        _every_string(board)
        pins = [state.pins[p] for p in _constant(module, "COILS")]
        for which in range(len(pins)):
            board.coil(which, 1000)
            board.coil(which, 300)
            assert pins[which].pwm.duty == 300 * 65535 // 1000
            board.coil(which, 1000)
            assert pins[which].pwm.duty == 65535
            board.coil(which, 999)
            assert 65000 < pins[which].pwm.duty < 65535
            board.coil(which, 0)
            assert pins[which].pwm.duty == 0
            board.coil(which, 2)
            assert pins[which].pwm.duty == 131
        assert len(state.pwms) == len(pins)
        board.safe()
        assert _levels(state, module) == [0] * len(pins)


# --- inputs that cut ---


def _guarded(name, port, with_can, mask=7):
    state, module, board = _board(name, port, with_can)
    _every_string(board)
    inputs = [state.pins[p] for p in _constant(module, "INPUTS")]
    for pin in inputs:
        pin.drive(1)
    board.guard(mask)
    return state, module, board, inputs


def _all_on(state, module, board, pm=1000):
    n = 3 * board.STRINGS
    for which in range(n):
        board.coil(which, pm)
    assert _levels(state, module) == [1] * n


def test_inputs_are_bits():
    for name, port, with_can in BOARDS:
        state, module, board = _board(name, port, with_can)
        pins = [state.pins[p] for p in _constant(module, "INPUTS")]
        assert board.inputs() == 0  # nothing wired: a broken wire looks the same
        for i in range(5):
            pins[i].drive(1)
            assert board.inputs() == 1 << i
            pins[i].drive(0)
        # no guard: nothing cuts
        _all_on(state, module, _with_strings(board))
        assert board.check_cuts() == 0


def _with_strings(board):
    _every_string(board)
    return board


def test_a_guarded_input_cuts_within_the_interrupt():
    for row in BOARDS:
        for pm in (1000, 400):
            for i in range(3):
                state, module, board, inputs = _guarded(*row)
                assert board.check_cuts() == 0
                n = 3 * board.STRINGS
                _all_on(state, module, board, pm)
                inputs[i].drive(0)  # the heap is locked in the handler, and pins must not be lost
                inputs[i].drive(1)  # however short it was
                assert inputs[i].hard == (row[1] != "esp32")
                board.wait(1)  # a soft interrupt's turn
                assert _levels(state, module) == [0] * n
                assert board.check_cuts() == 1 << i
                assert board.check_cuts() == 0
                pins = [state.pins[p] for p in _constant(module, "COILS")]
                for pin in pins:
                    pin.history.clear()
                for which in range(n):
                    board.coil(which, pm)
                    board.coil(which, 1000)
                assert _levels(state, module) == [0] * n
                assert not any(1 in pin.history for pin in pins)  # not for a moment
                board.rearm()
                assert _levels(state, module) == [0] * n  # nothing comes back by itself
                _all_on(state, module, board, pm)
                assert board.check_cuts() == 0


def test_an_input_that_is_not_guarded_does_not_cut():
    for row in BOARDS:
        for mask in range(8):
            state, module, board, inputs = _guarded(*row, mask=mask)
            _all_on(state, module, board)
            for i in range(5):
                if not mask >> i & 1:
                    inputs[i].drive(0)
                    board.inputs()
                    board.wait(1)
            assert board.check_cuts() == 0
            assert 0 not in _levels(state, module)


def test_a_guard_can_be_taken_back():
    for row in BOARDS:
        state, module, board, inputs = _guarded(*row)
        _all_on(state, module, board)
        board.guard(2)
        inputs[0].drive(0)
        board.wait(1)
        board.inputs()
        assert board.check_cuts() == 0
        assert 0 not in _levels(state, module)
        inputs[1].drive(0)
        board.wait(1)
        assert board.check_cuts() == 2


def test_a_guard_that_finds_a_bad_input_cuts_at_once():
    for name, port, with_can in BOARDS:
        state, module, board = _board(name, port, with_can)
        _every_string(board)
        _all_on(state, module, board)
        state.pins[_constant(module, "INPUTS")[0]].drive(1)
        board.guard(3)
        assert board.check_cuts() == 2
        assert 1 not in _levels(state, module)


def test_an_edge_without_an_interrupt_is_found():
    for row in BOARDS:
        state, module, board, inputs = _guarded(*row)
        _all_on(state, module, board)
        state.deaf = True
        inputs[2].drive(0)
        assert board.check_cuts() == 0
        assert board.inputs() == 0b11011
        assert board.check_cuts() == 4
        assert 1 not in _levels(state, module)


def test_rearming_with_a_bad_input_cuts_anew():
    for row in BOARDS:
        state, module, board, inputs = _guarded(*row)
        inputs[1].drive(0)
        board.wait(1)
        assert board.check_cuts() == 2
        board.rearm()
        assert board.check_cuts() == 2
        board.coil(0, 1000)
        assert 1 not in _levels(state, module)
        inputs[1].drive(1)
        board.coil(0, 1000)
        assert 1 not in _levels(state, module)  # good again is not enough
        board.rearm()
        board.coil(0, 1000)
        assert _levels(state, module)[0] == 1


def test_an_interrupt_while_a_coil_is_switched_wins():
    for row in BOARDS:
        if row[1] == "esp32":
            continue  # its handlers run between two steps
        for before in (0, 1000):
            for pm in (1000, 400):
                state, module, board, inputs = _guarded(*row)
                if before:
                    _all_on(state, module, board, before)

                def opens(state=state, inputs=inputs):
                    state.before_write = None
                    inputs[0].drive(0)  # after `coil` has looked, before the pin changes

                state.before_write = opens
                board.coil(1, pm)
                assert 1 not in _levels(state, module)
                assert board.check_cuts() == 1


def test_two_inputs_at_once_are_both_said():
    for row in BOARDS:
        _, _, board, inputs = _guarded(*row)
        inputs[0].drive(0)
        inputs[2].drive(0)
        board.wait(1)
        assert board.check_cuts() == 5


# --- sensors, the past, the files ---


class _Files:
    """In the place of `hal.storage`: where the files are, or no room for them."""

    def __init__(self):
        self.made = []
        self.room = True

    def FileStorage(self, folder, slots, size, keep):
        if not self.room:
            raise OSError(28)
        assert not keep  # an open file takes more heap than there is to spare
        self.made.append((folder, slots, size))
        return self


def test_the_storage_is_made_when_it_is_first_used():
    for row in BOARDS:
        board = _board(*row)[2]
        files = sys.modules["hal.storage"] = _Files()
        try:
            files.room = False
            assert board.storage is None  # the master runs all the same
            files.room = True
            assert board.storage is files
            assert board.storage is files
            ((folder, slots, size),) = files.made
            assert folder.endswith("/store") and slots >= 4 and size >= 1200
        finally:
            del sys.modules["hal.storage"]


def test_what_no_board_measures():
    for row in BOARDS:
        board = _board(*row)[2]
        assert board.current_ma() is None
        assert board.current_ma(1) is None
        assert board.link_mv() is None
        assert board.string_mv(0) is None
        assert board.isolation_kohm() is None


def test_adc_in_mv():
    for name, port, with_can in BOARDS:
        state, module, board = _board(name, port, with_can)
        for channel in range(len(board.ADCS)):
            state.mv[board.ADCS[channel]] = 1650 + channel
            assert abs(board.adc_mv(channel) - 1650 - channel) <= 1
            assert abs(board.adc_mv(channel) - 1650 - channel) <= 1
        assert board.adc_mv(len(board.ADCS)) is None
        if port == "rp2":
            # what the ADC has is no input any more: never good or present by accident
            state.pins[28].level = 1
            assert board.inputs() & 8 == 0


def test_i2c():
    for row in BOARDS:
        board = _board(*row)[2]
        assert board.open_i2c("i2c0", 400000).freq == 400000
        raises(ValueError, board.open_i2c, "i2c7", 400000)


def test_reset_cause():
    for name, port, with_can in BOARDS:
        state, _, board = _board(name, port, with_can)
        if port == "rp2":
            continue
        causes = {1: b"power_on", 2: b"reset", 3: b"watchdog", 4: b"unknown"}
        causes[5 if port == "esp32" else 0] = b"reset"
        for cause in causes:
            state.cause = cause
            assert board.reset_cause() == causes[cause]


def test_reset_cause_of_rp2():
    rp2040 = (0x40058008, 0x40064008)
    rp2350 = (0x400D8008, 0x4010002C)
    for name, machine, registers, bits in (
        ("RPI_PICO", "Raspberry Pi Pico with RP2040", rp2040, (1 << 8, 1 << 16, 1 << 20)),
        ("RPI_PICO2", "Raspberry Pi Pico2 with RP2350", rp2350, (1 << 16, 1 << 18, 1 << 28)),
    ):
        state, _, board = _board(name, "rp2", False)
        sys.modules["pico"].sys.implementation._machine = machine
        reason, chip = registers
        state.memory = {chip: bits[0]}
        assert board.reset_cause() == b"power_on"
        state.memory = {chip: bits[1]}
        assert board.reset_cause() == b"reset"
        state.memory = {chip: bits[2]}
        assert board.reset_cause() == b"unknown"
        # the watchdog leaves what the chip says of the reset before
        state.memory = {chip: bits[0], reason: 1}
        assert board.reset_cause() == b"watchdog"
        state.memory = {chip: bits[0], reason: 2}  # machine.reset()
        assert board.reset_cause() == b"reset"
        state.memory = {chip: 1 << 17, reason: 0}
        assert board.reset_cause() == (b"brown_out" if name == "RPI_PICO2" else b"unknown")


def test_the_self_test_reads_the_adc():
    for name, port, with_can in BOARDS:
        state, _, board = _board(name, port, with_can)
        assert board.self_test() == b"ok"
        for mv in (0, 3300):
            state.mv[4 if port == "rp2" else 256] = mv
            assert board.self_test() == (b"ok" if port == "esp32" else b"ADC reference")


def test_the_self_test_goes_on_while_files_are_checked():
    def results(board, check):
        """What the board says, call by call, when its files are checked so."""
        from hal import slot_marker  # after the board: each has its own

        steps = slot_marker.steps
        slot_marker.steps = check
        try:
            said = [board.self_test()]
            while said[-1] == b"running":
                said.append(board.self_test())
        finally:
            slot_marker.steps = steps
        assert board._check is None  # nothing of it stays
        return said

    def damaged():
        for _ in range(100):
            state.ms += 2
            yield b"running"
        yield b"a file of the firmware is damaged"

    def without_memory():
        yield b"running"
        raise MemoryError

    for name, port, with_can in BOARDS:
        state, _, board = _board(name, port, with_can)
        said = results(board, damaged)
        assert 2 < len(said) < 100 and said[-1] == b"a file of the firmware is damaged"
        for check in (without_memory, lambda: iter(())):  # the other ends without a result
            assert results(board, check)[-1] == b"a file of the firmware can't be read"
        assert board.self_test() == b"ok"


def test_the_watchdog_runs_from_the_start_and_through_service():
    for name, port, with_can in BOARDS:
        state, module, board = _board(name, port, with_can)
        board.feed()  # before the start nothing is there to be fed
        assert state.feeds == 0
        _started(board)
        assert state.watchdog == 2000
        assert state.interrupt_char == -1
        beat = state.pins[_constant(module, "HEARTBEAT")]
        levels = []
        for _ in range(4):
            board.feed()
            levels.append(beat.level)
        assert state.feeds == 4
        assert levels in ([1, 0, 1, 0], [0, 1, 0, 1])
        board.ended(False)
        assert state.interrupt_char == 3
        assert state.resets == 0
        (timer,) = state.timers.values()
        assert timer.period < state.watchdog
        timer.callback(timer)
        assert state.feeds == 5
        assert beat.level == levels[-1]  # and the heartbeat stands still


def test_restart():
    for name, port, with_can in BOARDS:
        state, _, board = _board(name, port, with_can)
        _started(board)
        board.ended(True)
        assert state.resets == 1


def test_the_wait_ends_when_something_comes():
    for name, port, with_can in BOARDS:
        state, _, board = _board(name, port, with_can)
        uart = [p for p in sorted(board.ports) if board.ports[p] == "uart"][0]
        board.open_uart(uart, 115200)
        start = state.ms
        board.wait(20)
        assert state.ms - start == 20
        board.wait(0)
        assert state.ms - start == 20

        def comes(state=state):
            for u in state.uarts.values():
                u.got = b"x"

        state.on_idle = comes
        board.wait(20)
        assert state.ms - start == 21


def test_a_link_without_a_ring_never_waits_for_an_interrupt():
    # nothing but the wait itself sees its line fall
    for name, port, with_can in BOARDS:
        state, _, board = _board(name, port, with_can)
        board._sleep = None  # a call of it would raise
        board._sleep_ms = 4
        uart = [p for p in sorted(board.ports) if board.ports[p] == "uart"][0]
        board.open_uart(uart, 115200)
        start = state.ms
        board.wait(20)
        assert state.idles and state.ms - start == 20


def test_clock_has_29_bits():
    from bms.clock import Clock

    state, _, board = _board("RPI_PICO", "rp2", False)
    for ms in (0, (1 << 29) - 1, 1 << 29, (1 << 30) - 1, 1 << 30, (1 << 31) + 5):
        state.ms = ms
        assert Clock(board.clock).now == ms & ((1 << 29) - 1)
        assert 0 <= board.clock.us() < 1 << 29


def test_uart_with_a_queue():
    state, _, board = _board("RPI_PICO", "rp2", False)
    stream = board.open_uart("uart0", 1000000)
    uart = state.uarts[0]
    buf = bytearray(16)
    assert stream.read(buf) == 0
    assert not stream.ready()
    uart.got = b"0123456789abcdefgh"
    assert stream.ready()
    assert stream.read(buf) == 16 and buf == b"0123456789abcdef"
    assert stream.read(buf) == 2 and buf[:2] == b"gh"
    de = state.pins[2]
    assert stream.write(b"xxhello", 2, 5) == 5
    assert uart.sent == b"hello"
    assert de.level == 1
    stream.read(buf)
    assert de.level == 1  # the last bit is not out
    assert stream.ready()  # so the program looks again
    uart.idle = True
    stream.read(buf)
    assert de.level == 0
    assert not stream.ready()


def test_uart_without_a_queue_writes_little_at_a_time():
    for rate, most in ((9600, 1), (115200, 8), (1000000, 71)):
        state, _, board = _board("PYBV11", "stm32", True)
        stream = board.open_uart("uart6", rate)
        out = bytearray(200)
        at = 0
        while at < 200:
            at += stream.write(out, at, 200 - at)
        assert max(state.uarts[6].writes) == most


def _spi_boards():
    yield "NUCLEO_H563ZI", "stm32", 1, "D14", "D15"
    yield "ESP32_GENERIC_S3", "esp32", 1, 10, 9


class _Sink:
    def __init__(self):
        self.frames = []

    def on_frame(self, ident, n, data, now):
        self.frames.append((ident, bytes(data[:n])))


def _spi_can(name, port, spi, cs, irq):
    state, module = fake_machine.load(name, port)
    board = module.Board()
    wire = _Wire(state, cs, irq)
    inner = module.SpiBus

    def bus(**kw):
        made = inner(**kw)
        wire.attach(state.spis[spi])
        return made

    module.SpiBus = bus
    return state, board, wire


def test_can_over_spi():
    for row in _spi_boards():
        state, board, wire = _spi_can(*row)
        link = board.open_can("can0", 500000, ())
        assert wire.chip.bit_rate(8000000) == 500000
        assert link.polled  # no interrupt: boards have to be asked one by one
        sink = _Sink()
        link.poll(sink, 5)
        wire.chip.receive(0x201, b"12345678")
        assert link.ready()
        wire.chip.receive(0x7FF, b"")
        link.poll(sink, 6)
        assert sink.frames == [(0x201, b"12345678"), (0x7FF, b"")]
        assert not link.ready()
        assert link.send(0x0C1, b"ab", 2)
        assert link.send(EXTENDED | 0x18100140, b"c", 1)
        assert wire.sent == [(0x0C1, b"ab"), (EXTENDED | 0x18100140, b"c")]


def test_filters_of_can_over_spi():
    daly = EXTENDED | 0x18900140
    for row in _spi_boards():
        _, board, wire = _spi_can(*row)
        link = board.open_can("can0", 500000, ((daly, EXTENDED | BITS),))
        sink = _Sink()
        link.poll(sink, 5)
        wire.chip.receive(0x201, b"1")
        wire.chip.receive(daly ^ 1, b"2")
        wire.chip.receive(daly, b"3")
        link.poll(sink, 6)
        assert sink.frames == [(daly, b"3")]


class _FdBus:
    def __init__(self, **kw):
        self.chip = Mcp2518fdChip()

    def transfer(self, out, inp, n):
        answer = self.chip.transfer(bytearray(out[:n]), n)
        for i in range(n):
            inp[i] = answer[i]

    def pending(self):
        self.chip.wait()
        return self.chip.interrupt


def test_an_mcp2518fd_on_the_same_pins_is_found():
    for row in _spi_boards():
        state, module = fake_machine.load(row[0], row[1])
        board = module.Board()
        module.SpiBus = _FdBus
        link = board.open_can("can0", 1000000, ((0x200, 0x600),))  # more than an MCP2515 of 8 MHz
        assert link.__class__.__name__ == "Mcp2518fd"
        assert not link.polled
        assert link.rate == 1000000


def test_no_chip_is_an_error():
    for row in _spi_boards():
        _, board, wire = _spi_can(*row)
        wire.chip.dead = True
        raises(OSError, board.open_can, "can0", 500000, ())


def test_a_rate_that_the_crystal_cannot_give():
    for row in _spi_boards():
        _, board, _ = _spi_can(*row)
        raises(ValueError, board.open_can, "can0", 33333, ())


# --- CAN of its own ---


def _native(filters=((0x200, 0x600), (0x0C0, 0x7C0))):
    # the Pyboard before machine.CAN has pyb.CAN
    for name, with_can in (("NUCLEO_G474RE", True), ("PYBV11", True), ("PYBV11", False)):
        state, _, board = _board(name, "stm32", with_can)
        link = board.open_can("can0", 0, filters)
        yield state.cans[1], link


def test_native_can_takes_frames_in_the_interrupt():
    for can, link in _native():
        assert link.rate == 500000 and not link.polled
        sink = _Sink()
        frames = [(0x200 + i, bytes([i] * (i % 9))) for i in range(40)]
        for ident, data in frames:
            can.arrive(ident, data)  # the FIFO holds three: the ring the rest
        assert link.ready()
        can.arrive(0x041, b"xx")  # filtered
        link.poll(sink, 1)
        assert sink.frames == frames
        assert link.rx == 40 and link.damaged == 0
        assert not link.ready()


def test_native_can_of_29_bits():
    daly = EXTENDED | 0x18900140
    for can, link in _native(((0x201, 0x7FF), (daly, EXTENDED | BITS ^ 0xF), (0x7FF, 0x7FF))):
        sink = _Sink()
        for ident in (0x201, daly, EXTENDED | 0x201, daly ^ 0x10, daly ^ 0xF, 0x7FF, 0x7FE):
            can.arrive(ident, b"ab")
        can.arrive(daly, b"", flags=CAN.FLAG_RTR)
        link.poll(sink, 1)
        assert [frame[0] for frame in sink.frames] == [0x201, daly, daly ^ 0xF, 0x7FF]
        assert link.rx == 4 and link.damaged == 1
        for ident in (daly, EXTENDED | BITS, 0x7FF):
            assert link.send(ident, bytearray(b"abcdefgh"), 3)
        assert can.queue == [(daly, b"abc"), (EXTENDED | BITS, b"abc"), (0x7FF, b"abc")]
    for filters, wanted in ((((EXTENDED, EXTENDED),), [daly]), ((), [0x7FF])):
        for can, link in _native(filters):
            sink = _Sink()
            can.arrive(daly, b"")
            can.arrive(0x7FF, b"")
            link.poll(sink, 1)
            taken = [frame[0] for frame in sink.frames]
            # bxCAN's filters of 11 bits see no difference under pyb.CAN
            assert taken == wanted or not filters and not isinstance(can, CAN)
    # a bank of pyb.CAN has two filters of 11 bits, or one of 29
    filters = [(0x200 + k, 0x7FF) for k in range(5)] + [(daly + k, EXTENDED | BITS) for k in (0, 1)]
    for can, link in _native(tuple(filters)):
        sink = _Sink()
        for ident, _ in filters:
            can.arrive(ident, b"")
            can.arrive(ident ^ 0x40, b"")
        link.poll(sink, 1)
        assert [frame[0] for frame in sink.frames] == [pair[0] for pair in filters]


def test_more_filters_than_a_controller_has():
    state, _, board = _board("NUCLEO_G474RE", "stm32", True)
    raises(ValueError, board.open_can, "can0", 0, ((EXTENDED, EXTENDED),) * 9)
    state, _, board = _board("PYBV11", "stm32", False)
    raises(ValueError, board.open_can, "can0", 0, ((EXTENDED, EXTENDED),) * 15)


def test_native_can_survives_a_lost_interrupt():
    for can, link in _native():
        sink = _Sink()
        can.arrive(0x201, b"1", interrupt=False)
        link.poll(sink, 1)
        assert sink.frames == [(0x201, b"1")]


def test_native_can_counts_what_it_loses():
    for can, link in _native():
        sink = _Sink()
        for _ in range(4):
            can.arrive(0x201, b"1", interrupt=False)
        link.poll(sink, 1)
        assert len(sink.frames) == 3
        said = link.damaged
        assert said == (1 if isinstance(can, CAN) else 0)  # pyb.CAN doesn't say it
        for _ in range(70):
            can.arrive(0x202, b"2")  # nobody polls: the ring is full at 63
        link.poll(sink, 2)
        assert len(sink.frames) == 3 + 63
        assert link.damaged == said + 70 - 63
        can.arrive(0x203, b"", flags=CAN.FLAG_RTR)
        link.poll(sink, 3)
        assert len(sink.frames) == 66 and link.damaged == said + 8


def test_an_error_in_the_interrupt_does_not_end_it():
    for can, link in _native():
        sink = _Sink()
        can.fail = True
        can.arrive(0x201, b"1")
        assert link.failed == 1
        can.fail = False
        can.arrive(0x202, b"2")
        link.poll(sink, 1)
        assert sink.frames == [(0x201, b"1"), (0x202, b"2")]


def test_native_can_sends_while_there_is_room():
    for can, link in _native():
        for ident in (0x41, 0x42, 0x43):
            assert link.send(ident, bytearray(b"abcdefgh"), 2)
        assert can.queue == [(0x41, b"ab"), (0x42, b"ab"), (0x43, b"ab")]
        assert not link.send(0x44, bytearray(8), 8)
        can.queue.clear()
        assert link.send(0x41, bytearray(8), 8)
        if isinstance(can, CAN):
            assert not link.send(0x41, bytearray(8), 8)  # one of the same identifier waits
            assert (link.tx, link.dropped) == (4, 2)


def test_native_can_comes_back_from_bus_off():
    for can, link in _native():
        sink = _Sink()
        link.poll(sink, 0)
        can.now_state = CAN.STATE_BUS_OFF if isinstance(can, CAN) else can.BUS_OFF
        assert not link.send(0x41, bytearray(8), 8)
        link.poll(sink, 10)
        assert can.restarts == 0
        link.poll(sink, 50)
        assert can.restarts == 1 and link.bus_off == 1
        assert link.send(0x41, bytearray(8), 8)


def test_a_rate_that_cannot_be_made():
    state, _, board = _board("NUCLEO_G474RE", "stm32", True)
    raises(ValueError, board.open_can, "can0", 33333, ())


def test_vcp_console():
    state, _, board = _board("PYBV11", "stm32", True)
    vcp = state.vcp
    buf = bytearray(16)
    assert board.console.read(buf) == 0
    vcp.got = b"status\n"
    assert board.console.read(buf) == 7 and buf[:7] == b"status\n"
    line = bytearray(b"x" * 100)
    assert board.console.write(line, 0, 100) == 64
    assert board.console.write(line, 64, 36) == 0  # nobody reads: nothing waits
    vcp.room = 64
    assert board.console.write(line, 64, 36) == 36


def test_usb_console_never_waits_whoever_reads():
    # 256 bytes of queue: only whole blocks go in, so room for a byte is room for a block
    for name in ("RPI_PICO", "RPI_PICO2"):
        state, _, board = _board(name, "rp2", False)
        console = board.console
        line = bytearray(b'{"k":"x","crc":"0000"}' + b"-" * 150 + b"\n")
        taken = b""
        for k in range(200):
            n = len(line) - k % 100
            line[n - 1] = 10
            at = start = k % 7
            for _ in range(4):
                if at < n:
                    at += console.write(line, at, n - at)
            if k % 3 == 0:
                taken += state.host.take()
            line[n - 1] = 45
            assert start <= at <= n
        assert state.host.waits == 0
        assert len(taken) > 2000 and len(taken) % 64 == 0


def test_usb_console_pads_the_end_of_a_line():
    state, _, board = _board("RPI_PICO", "rp2", False)
    line = b'{"k":"x"}' * 10 + b"\n"
    at = board.console.write(line, 0, len(line))
    assert at == 64
    assert board.console.write(line, at, len(line) - at) == len(line) - 64
    assert state.host.take() == line[:-1] + b" " * 37 + b"\n"


def test_console_reads_a_few_bytes_at_a_time():
    for name, port, with_can in BOARDS:
        if name == "PYBV11" or name == "NUCLEO_H563ZI":
            continue
        state, _, board = _board(name, port, with_can)
        buf = bytearray(16)
        assert board.console.read(buf) == 0
        state.host.typed = b"status\nclose\n"
        got = b""
        for _ in range(4):
            n = board.console.read(buf)
            assert n <= 8
            got += buf[:n]
        assert got == b"status\nclose\n"


def test_uart_console_writes_little_at_a_time():
    state, _, board = _board("NUCLEO_G474RE", "stm32", True)
    line = bytearray(b"x" * 99 + b"\n")
    at = 0
    for _ in range(25):
        state.ms += 2
        n = board.console.write(line, at, 100 - at)
        assert n <= 8
        assert board.console.write(line, at, 100 - at) == 0  # once in 2 ms
        at += n
        if at == 100:
            break
    assert state.host.take() == line


def test_the_esp32_console_paces_itself_and_rests_after_a_stall():
    # its port always says that there is room, and sends everything to a UART besides
    state, _, board = _board("ESP32_GENERIC_S3", "esp32", False)
    console = board.console
    line = bytearray(b"-" * 199 + b"\n")
    assert console.write(line, 0, 200) == 0
    state.ms += 6
    assert console.write(line, 0, 200) == 64
    assert console.write(line, 64, 136) == 0
    state.ms += 6
    assert console.write(line, 64, 136) == 64
    for _ in range(3):  # nobody reads: the third block more waits half a second, once
        state.ms += 6
        console.write(line, 0, 200)
    assert state.host.waits == 1
    state.host.take()
    for _ in range(290):
        state.ms += 100
        assert console.write(line, 0, 200) == 0
    state.host.typed = b"s"
    assert console.read(bytearray(8)) == 1  # a word from the host ends the rest
    assert console.write(line, 0, 200) == 64
    assert state.host.waits == 1
