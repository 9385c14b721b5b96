"""The master: one cycle of scan -> evaluate -> act -> report, repeated until it is left.

Read this first. Only `board` differs between boards; everything else is built from the pack file.
No stage waits, and none allocates: `run` steps with the heap locked.
"""

from micropython import const

from bms import heap_lock, ticks
from bms.clock import Clock
from bms.console.commands import RESET, SERVICE, Commands
from bms.console.telemetry import BOOT, Telemetry
from bms.console.tx_buffer import TxBuffer
from bms.contactors.strings import Strings
from bms.energy.balancing import Balancing
from bms.energy.charge import Charge
from bms.energy.power import PowerLimits
from bms.kernels import NATIVE
from bms.pack import Pack
from bms.protection.fault_ids import CONFIG_COPY_USED, LIMITS_UNLOCKED, MEMORY_ERROR, SELF_TEST
from bms.protection.faults import Faults
from bms.protection.freeze_frame import FreezeFrame
from bms.protection.inputs import Inputs
from bms.protection.limits import Limits
from bms.sensors.current import StringCurrent
from bms.storage.history import NOTHING, History
from bms.storage.nvm_store import NvmStore
from bms.storage.recorder import Recorder
from bms.ticks import MASK

_TICK_MS = const(25)  # period of ages, inputs and contactors; the rest has twice this period
_FEED_MS = const(45)  # less than two ticks, in which every stage runs once
# steps of a tick's work: _AGES where a reading may be too old; _EVALUATE in each tick; _COMMANDS,
# _ENERGY and _POWER in every second; _REPORT and _LINES in the others, and _TYPED while a command
# is coming in
_NONE, _AGES, _EVALUATE, _ACT, _COMMANDS, _ENERGY, _POWER, _REPORT, _LINES, _TYPED = range(10)
_SCANNED, _EVALUATED, _ACTED, _REPORTED, _ALL = 1, 2, 4, 8, 15
_PIECES = const(6)  # parts of lines in one step, while no frame comes
_PUT_OFF = const(6)  # steps in a row that only take frames
_LEAVE_MS = const(200)  # time to send the last lines
_UNLOCKED_MS = const(10000)  # the heap stays unlocked for so long after a MemoryError
_NOT_OPEN = b"coils are off, but a contactor's feedback says closed"
_NO_FEEDBACK = b"coils are off; no feedback is configured that would prove it"
_ENDING = b"the program is about to end"
_TESTING = b"the self-test is running: wait"


class Master:
    """scans: completed or given up since boot; cycles: steps since boot.

    self_test: b"running", then its result; memory_errors: steps since boot that tried to allocate.
    """

    # long: builds every part in the order in which memory and other parts need it
    def __init__(self, config, board):
        """Build everything that runs. Raises ConfigError where pack file and board disagree."""
        self.board = board
        self.native = NATIVE
        self.clock = Clock(board.clock)
        self.tx_buffer = TxBuffer(board.console, self.clock)  # first: its buffers are the largest
        self.pack = Pack(config)
        self.faults = Faults(self.clock, self.pack)
        board.forget()  # the fault catalog: the rest needs its memory
        self.currents = [StringCurrent(config, s) for s in range(self.pack.strings)]
        self.strings = Strings(config, board, self.faults, self.pack, self.currents, self.clock)
        self.faults.set_open_target(self.strings)
        self.limits = Limits(
            config, self.pack, self.currents, self.faults, self.strings, self.clock.now
        )
        board.forget()  # free what Faults and Limits needed at start
        self.inputs = Inputs(config, board, self.faults, self.strings, self.limits)
        self.freeze_frame = FreezeFrame(
            self.pack, self.currents, self.strings, self.faults, self.clock
        )
        self.balancing = Balancing(config, self.pack, self.faults, self.clock.now)
        from bms import self_test  # these three are needed here only
        from bms.sensors import build as sensors
        from bms.slaves import build as slaves

        found = sensors.build(config, board)
        self.drivers = slaves.build(config, board, self.pack, self.limits, self.faults, found)
        self.limits.set_poll_periods()
        sensors.open_rest(config, board, found)
        self.string_sensors = sensors.string_sensors(
            config, found, self.currents, self.strings, self.pack, self.faults, self.clock.now
        )
        self._ring = board.ring
        self._slow = [driver for driver in self.drivers if driver.SLOW]
        self.leaving = self._proving = self._anyway = False
        self._result = None  # of the test behind the start
        self._tested(self_test.run(board))
        if config.beyond:
            self.faults.set(LIMITS_UNLOCKED, -1, config.beyond)
        if config.damaged:
            self.faults.set(CONFIG_COPY_USED, -1, config.damaged)
        self._voltages = bool(config.voltage_sensor)
        self.store = NvmStore(config, board.storage, self.clock)
        self.recorder = Recorder(self, config, self.store)
        self.soc = Charge(config, self.pack, self.currents, self.faults, self.store, self.clock.now)
        self.power = PowerLimits(
            config,
            self.pack,
            self.faults,
            self.strings,
            self.limits,
            self.soc,
            self.clock.now,
        )
        self._sense_ms = _TICK_MS  # a sensor that is polled must be stepped so often
        for sensors_of_string in self.string_sensors:
            for sensor in sensors_of_string.sensors:
                if 0 < sensor.EVERY_MS < self._sense_ms:
                    self._sense_ms = sensor.EVERY_MS
        self.telemetry = Telemetry(config, board, self, self.tx_buffer)
        self.history = History(config, self, self.tx_buffer)
        self.console = Commands(self, board.console, self.telemetry)
        self.scans = 0
        self.cycles = 0
        self._open_ms = config.feedback_delay_ms
        self.restart = False
        self._period = config.scan_period_ms
        self._scan_at = self.clock.now
        self._tick_at = self._feed_at = self._leave_at = self.clock.now
        self._seq = 0
        self._open_scan = False  # started, not evaluated yet
        self._work = _NONE
        self._put_off = 0  # steps in which work was put off, in a row
        self._after = False
        self._odd = False  # every second tick
        self._typing = False  # a command is coming in
        self._sending = False  # the port has taken a part of a line, and more waits
        self._evidence = 0
        self.memory_errors = 0
        self._unlocked = False  # after a MemoryError, until `_lock_at`
        self._lock_at = 0

    def run(self):
        """Step until a command ends the program; the contactors are open then."""
        heap_lock.lock()
        try:
            while not (self.leaving and ticks.diff(self.clock.now, self._leave_at) >= _LEAVE_MS):
                try:
                    if self.step():
                        continue
                    rest = self._rest()
                    # where time is simulated it passes in `wait` only
                    if rest or not self._work and not self.limits.evaluating:
                        self.board.wait(rest)
                except MemoryError:
                    if not self._finish_step():
                        raise
            heap_lock.unlock()
            self.store.save(self.clock.now)
            self.store.close()
        finally:
            heap_lock.unlock()
            self.history.close()

    def _finish_step(self):
        """After a MemoryError: unlock the heap, do the evaluations that were missed, step again.

        The heap stays unlocked for 10 s, so that repeated allocations neither hide a trip nor open
        the contactors. False where the heap was unlocked already: there is no memory left.
        """
        if not heap_lock.unlock():
            return False
        self.memory_errors = (self.memory_errors + 1) & 0x1FFFFFFF
        self._unlocked = True
        self._lock_at = ticks.add(self.clock.now, _UNLOCKED_MS)
        self.limits.recheck_hard_bounds()
        self.faults.complete()
        self.faults.set(MEMORY_ERROR, -1, self.memory_errors)
        self.step()
        return True

    def step(self):
        """One cycle: take received frames, then work in short steps; a frame waits for one at most.

        The evaluation of a finished scan comes first, then the work of a tick, then telemetry.
        True where a frame has come meanwhile: the next step should follow at once.
        """
        now = self.clock.tick()
        self._scan(now)
        if self.inputs.guarding:
            self.inputs.check_cuts()
        for sensors_of_string in self.string_sensors:
            if sensors_of_string.step(now):
                self.limits.current_sampled(sensors_of_string.string, now)
        if ticks.diff(now, self._tick_at) >= 0:
            self._tick_at = ticks.add(now, _TICK_MS)
            self._work = _AGES if self.pack.may_expire(now) else _EVALUATE
        ring = self._ring
        came = self.board.pending() if ring is None else ring[0] != ring[1]
        if came and self._put_off < _PUT_OFF:
            self._put_off += 1  # frames that come one after the other go first
        else:
            self._put_off = 0
            # while frames come without a gap: work, and what follows it, in turns
            self._after = came and not self._after
            if not self._after:
                came = self._work_steps(now)
                if self._testing:
                    self._test()
            if ring is not None and ring[0] != ring[1]:
                came = True  # since the last look
            if self._after or not came:
                if self.tx_buffer.unsent:
                    self._sending = self.tx_buffer.flush()
                    came = ring is not None and ring[0] != ring[1]
                if self._evidence == _ALL and (self._after or not came):
                    self._feed(now)
        self.cycles = (self.cycles + 1) & MASK
        return came

    def crashed(self, text):
        """Store the text (bytes) of the exception that ended the program; the coils are off."""
        self.store.crash(text)
        self.store.close()

    def leave(self, restart, anyway):
        """Open the contactors, then end `run`; `restart`: the board starts again afterwards.

        Ends only once all coils are off and the feedback shows open contactors; with `anyway`
        whatever the feedback shows. `telemetry` sends the answer then.
        """
        self.strings.open(self.clock.now)
        self._proving = True
        self._lock()
        self._anyway = anyway
        self.restart = restart
        self._leave_at = self.clock.now

    def _prove(self, now):
        """End the program once the contactors are proven open; go on where they don't open."""
        if self.strings.energised():
            self._leave_at = now  # `contactors` limits the time of opening
            return
        closed = self.strings.seen_closed()
        waited = ticks.diff(now, self._leave_at)
        if closed >= 0 and not self._anyway:
            if waited >= self._open_ms:
                self._proving = False
                self._lock()
                self.telemetry.answer(RESET if self.restart else SERVICE, False, _NOT_OPEN)
            return
        self._proving = False
        self.leaving = True
        self._leave_at = now
        text = b"contactors open"
        if not self.strings.has_feedback:
            text = _NO_FEEDBACK
        elif closed >= 0:
            text = _NOT_OPEN
        self.telemetry.answer(RESET if self.restart else SERVICE, True, text)

    def _tested(self, result):
        """Take what the self-test says; nothing closes before it has ended well."""
        self.self_test = result
        self._testing = result == b"running"
        if not self._testing and result != b"ok":
            self.faults.set(SELF_TEST, -1, 0)
        self._lock()

    def _test(self):
        """A step of the board's self-test, behind the start; it allocates."""
        locked = heap_lock.unlock()
        if self._result is None:
            result = self.board.self_test()
            if result != b"running":
                self._result = result
        else:
            self.board.forget()  # a step later: the stack no longer holds what the test needed
            self._tested(self._result)
            self.telemetry.request(BOOT)
        heap_lock.restore(locked)

    def _lock(self):
        """Let nothing close while the program is about to end, or the self-test runs."""
        why = _TESTING if self._testing else None
        self.strings.lock(_ENDING if self._proving or self.leaving else why)

    def _scan(self, now):
        """Take received frames; begin and end scans."""
        if ticks.diff(now, self._scan_at) >= 0 and not self._first(now):
            if self._open_scan:
                self._finish(now)
            self._seq = (self._seq + 1) & 0xFF
            for driver in self.drivers:
                driver.scan_started(self._seq, now)
            self._open_scan = True
            self._scan_at = ticks.add(self._scan_at, self._period)
            if ticks.diff(now, self._scan_at) >= 0:
                self._scan_at = ticks.add(now, self._period)  # far behind: don't catch up
            self._evidence |= _SCANNED
        done = True
        for driver in self.drivers:
            driver.step(now)
            done = done and driver.done
        if done and self._open_scan:
            self._finish(now)

    def _first(self, now):
        """True where a frame waits that should be taken before a scan begins: for 2 ms at most."""
        ring = self._ring
        return ring is not None and ring[0] != ring[1] and ticks.diff(now, self._scan_at) < 2

    def _finish(self, now):
        # every fresh reading is evaluated once per scan
        self._open_scan = False
        self.scans = (self.scans + 1) & MASK
        self.limits.scan_finished(now)

    def _work_steps(self, now):
        """Do steps of work until all is done, then some of telemetry; True where a frame came."""
        limits = self.limits
        ring = self._ring
        pieces = _PIECES
        while True:
            if limits.evaluating:
                limits.evaluate_next(now)
            elif self._work:
                self._work_step(now)
            elif pieces and self._send():
                pieces -= 1
            else:
                return False
            if self.board.pending() if ring is None else ring[0] != ring[1]:
                return True

    def _work_step(self, now):
        """One step of a tick's work."""
        work = self._work
        if work == _EVALUATE:
            self._evaluate(now)
            self._odd = not self._odd
            # closed or open contactors need half as many looks as those of a sequence
            if self._odd or self._proving or not self.strings.steady:
                self._work = _ACT
            else:
                self._work = _COMMANDS
        elif work == _AGES:
            if not self.limits.expire_next(now):
                self._work = _EVALUATE
        elif work == _ACT:
            self._act(now)
            self._work = _REPORT if self._odd else _COMMANDS
        elif work <= _ENERGY:
            if work == _COMMANDS:
                self._typing = self.console.step(now)
                if self._typing:
                    if not self.console.more:
                        self._work = _ENERGY
                    return
            self._work = _POWER
            if not self._testing:
                self.balancing.step(now)
            self.soc.step(now)
        elif work == _REPORT:
            self._work = _LINES
            self.freeze_frame.step(now)
            self.recorder.step(now)
        elif work == _LINES:
            self._work = _TYPED if self._typing else _NONE
            self._report(now)
        elif work == _POWER:
            self._work = _NONE
            self.power.step(now)
        else:
            self._typing = self.console.step(now)
            if not self.console.more:
                self._work = _NONE

    def _evaluate(self, now):
        self.pack.link_mv = self.board.link_mv()
        if self._voltages:
            for s in range(self.pack.strings):
                self.limits.string_measured(s, self.board.string_mv(s), now)
        self.inputs.step(now)
        for sensors_of_string in self.string_sensors:
            sensors_of_string.tick(now)
        self.limits.check_ages(now)
        self._evidence |= _EVALUATED

    def _act(self, now):
        self.strings.step(now)
        if self._proving:
            self._prove(now)
        self._evidence |= _ACTED

    def _report(self, now):
        self.telemetry.look(now)
        if self._unlocked and ticks.diff(now, self._lock_at) >= 0:
            self._unlocked = False
            self.faults.clear(MEMORY_ERROR)
            heap_lock.lock()
        self._evidence |= _REPORTED

    def _send(self):
        """Build a part of a line; True where another may follow at once.

        Telemetry comes before stored history, whose parts take longer. While the port takes what
        waits, a line waits for room; where nobody reads it is dropped.
        """
        if self._sending and not self.tx_buffer.room():
            return False
        history = self.history
        if history.job != NOTHING and (history.building or not self.telemetry.busy()):
            history.step()
            return False
        return self.telemetry.step()

    def _feed(self, now):
        """Feed the watchdog and toggle the heartbeat: every stage ran since the last time."""
        if ticks.diff(now, self._feed_at) >= _FEED_MS:
            self._feed_at = now
            # a scan that is on time counts again at once; a late one must run first
            late = ticks.diff(now, self._scan_at) > self._period
            self._evidence = 0 if late else _SCANNED
            self.board.feed()

    def _rest(self):
        """ms until the next step is due; received bytes end the wait earlier."""
        if self._work or self.limits.evaluating or self._testing:
            return 0
        if self._sending or self.telemetry.busy() or self.history.job != NOTHING:
            return 1
        now = self.clock.now
        rest = ticks.diff(self._scan_at, now)
        tick = ticks.diff(self._tick_at, now)
        if tick < rest:
            rest = tick
        if self._sense_ms < rest:
            rest = self._sense_ms
        for driver in self._slow:
            due = driver.rest(now)
            if due < rest:
                rest = due
        return rest if rest > 0 else 0
