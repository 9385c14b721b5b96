"""The master: one cycle of scan -> judge -> act -> report, stepped for ever.

Read this first. `board` is the only thing here that differs between boards; everything else is
built from the pack file. No stage waits, and none allocates: `run` steps with the heap locked.
"""

from micropython import const

from bms import heap_lock, self_test, slaves, ticks
from bms.balancing import Balancing
from bms.clock import Clock
from bms.console import Console
from bms.current import Current
from bms.faults import CONFIG_COPY_USED, MEMORY_ERROR, SELF_TEST, UNLOCKED, Faults
from bms.freeze import Freeze
from bms.inputs import Inputs
from bms.keeper import Keeper
from bms.kernels import NATIVE
from bms.limits import Limits
from bms.outbox import Outbox
from bms.pack import Pack
from bms.power import Power
from bms.recall import NOTHING, Recall
from bms.soc import Soc
from bms.store import Store
from bms.strings import Strings
from bms.telemetry import Telemetry

_TICK_MS = const(20)  # ages, inputs, contactors and console: so often, all else half as often
_FEED_MS = const(50)
# pieces of a tick's work; of the last three one tick has the first two, the next one the last
_NONE, _JUDGE, _ACT, _COMMANDS, _BALANCE, _POWER, _REPORT = range(7)
_SCANNED, _JUDGED, _ACTED, _REPORTED, _ALL = 1, 2, 4, 8, 15
_LEAVE_MS = const(200)  # time for the last lines to get out
_UNLOCKED_MS = const(10000)  # the heap stays unlocked for so long after a MemoryError
_NOT_OPEN = b"coils are off, but a contactor's feedback says closed"
_NO_FEEDBACK = b"coils are off; no feedback is configured that would prove it"


class Master:
    """scans: completed or given up since boot; cycles: steps since boot; self_test: its result.

    memory_errors: steps since boot that asked for memory.
    """

    def __init__(self, config, board):
        """Build everything that runs. Raises ConfigError where pack file and board disagree."""
        self.board = board
        self.native = NATIVE
        self.clock = Clock(board.clock)
        self.outbox = Outbox(board.console, self.clock)  # first: its buffers are the largest
        self.pack = Pack(config)
        self.faults = Faults(self.clock, self.pack)
        board.forget()  # its table: there must be room for what follows
        self.currents = [Current(config, s) for s in range(self.pack.strings)]
        self.strings = Strings(config, board, self.faults, self.pack, self.currents, self.clock)
        self.faults.opens(self.strings)
        self.limits = Limits(
            config, self.pack, self.currents, self.faults, self.strings, self.clock.now
        )
        board.forget()  # the tables of the two
        self.inputs = Inputs(config, board, self.faults, self.strings, self.limits)
        self.freeze = Freeze(self.pack, self.currents, self.strings, self.faults, self.clock)
        self.balancing = Balancing(config, self.pack, self.faults, self.clock.now)
        from bms.sensors import build as sensors  # needed here only

        found = sensors.build(config, board)
        self.drivers = slaves.build(config, board, self.pack, self.limits, self.faults, found)
        self.limits.paced()
        sensors.open_rest(config, board, found)
        self.sources = sensors.sources(
            config, found, self.currents, self.strings, self.pack, self.faults, self.clock.now
        )
        del sensors
        self._slow = [driver for driver in self.drivers if driver.SLOW]
        self.self_test = self_test.run(board)
        if self.self_test != b"ok":
            self.faults.raised(SELF_TEST, -1, 0)
        if config.beyond:
            self.faults.raised(UNLOCKED, -1, config.beyond)
        if config.damaged:
            self.faults.raised(CONFIG_COPY_USED, -1, config.damaged)
        self._voltages = bool(config.voltage_sensor)
        self.store = Store(config, board.storage, self.clock)
        self.keeper = Keeper(self, config, self.store)
        self.soc = Soc(config, self.pack, self.currents, self.faults, self.store, self.clock.now)
        self.power = Power(
            config,
            self.pack,
            self.faults,
            self.strings,
            self.limits,
            self.soc,
            self.clock.now,
        )
        self.telemetry = Telemetry(config, board, self, self.outbox)
        self.recall = Recall(config, self, self.outbox)
        self.console = Console(self, board.console, self.telemetry)
        self.scans = 0
        self.cycles = 0
        self.leaving = False
        self._proving = self._anyway = False
        self._open_ms = config.feedback_delay_ms
        self.restart = False
        self._period = config.scan_period_ms
        self._scan_at = self.clock.now
        self._tick_at = self._feed_at = self._leave_at = self.clock.now
        self._seq = 0
        self._open_scan = False  # started, and not judged yet
        self._work = _NONE
        self._reports = False  # this tick ends with _REPORT
        self._evidence = 0
        self.memory_errors = 0
        self._unlocked = False  # after a MemoryError, until `_lock_at`
        self._lock_at = 0

    def run(self):
        """Step until a person asks to leave; the contactors are open then."""
        heap_lock.lock()
        try:
            while not (self.leaving and ticks.diff(self.clock.now, self._leave_at) >= _LEAVE_MS):
                try:
                    self.step()
                    self.board.wait(self._rest())
                except MemoryError:
                    if not self._finish_step():
                        raise
            heap_lock.unlock()
            self.store.save(self.clock.now)
            self.store.close()
        finally:
            heap_lock.unlock()
            self.recall.close()

    def _finish_step(self):
        """After a MemoryError: unlock the heap, evaluate and trip what was left out, step again.

        The heap stays unlocked for a while, so that what allocates again and again is no reason
        to miss a trip or to open. False where the heap is unlocked already: there is no memory.
        """
        if not heap_lock.unlock():
            return False
        self.memory_errors = (self.memory_errors + 1) & 0x1FFFFFFF
        self._unlocked = True
        self._lock_at = ticks.add(self.clock.now, _UNLOCKED_MS)
        self.limits.hard_again()
        self.faults.complete()
        self.faults.raised(MEMORY_ERROR, -1, self.memory_errors)
        self.step()
        return True

    def step(self):
        """One cycle: what has come, then work in short pieces: a frame waits for one of them.

        The work of a scan that has ended comes first, then that of a tick, then telemetry.
        """
        now = self.clock.tick()
        long = self._scan(now)
        self.inputs.cuts()
        for source in self.sources:
            if source.step(now):
                self.limits.sampled(source.string, now)
        if ticks.diff(now, self._tick_at) >= 0:
            self._tick_at = ticks.add(now, _TICK_MS)
            self._work = _JUDGE
        if long and self.board.pending():
            pass  # a frame has waited for the beginning or the end of a scan: it comes first
        elif self.limits.judging or self._work:
            self._pieces(now)
        else:
            self._tell()
        self.outbox.flush()
        self._feed(now)
        self.cycles = (self.cycles + 1) & 0x1FFFFFFF

    def crashed(self, text):
        """Keep the words of what ended the program; the coils are off."""
        self.store.crash(text)
        self.store.close()

    def leave(self, restart, anyway):
        """Open the contactors and end `run` a moment later, to start again or for good.

        Not before all are off and their feedback says open, but `anyway`; `telemetry` gives the
        answer then.
        """
        self.strings.open(self.clock.now)
        self.strings.lock(True)
        self._proving = True
        self._anyway = anyway
        self.restart = restart
        self._leave_at = self.clock.now

    def _prove(self, now):
        """Leave as soon as the contactors are seen open, or stay where they don't open."""
        if self.strings.energised() and not self._anyway:
            self._leave_at = now  # opening is bounded by itself
            return
        closed = self.strings.seen_closed()
        waited = ticks.diff(now, self._leave_at)
        if closed >= 0 and not self._anyway:
            if waited >= self._open_ms:
                self._proving = False
                self.strings.lock(False)
                self.telemetry.answer(b"reset" if self.restart else b"service", False, _NOT_OPEN)
            return
        self._proving = False
        self.leaving = True
        self._leave_at = now
        text = b"contactors open"
        if not self.strings.has_feedback:
            text = _NO_FEEDBACK
        elif closed >= 0:
            text = _NOT_OPEN
        self.telemetry.answer(b"reset" if self.restart else b"service", True, text)

    def _scan(self, now):
        """Take what has come; True where a scan began or ended, which takes longer."""
        long = False
        if ticks.diff(now, self._scan_at) >= 0:
            long = True
            if self._open_scan:
                self._finish(now)
            self._seq = (self._seq + 1) & 0xFF
            for driver in self.drivers:
                driver.turn(self._seq, now)
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
            long = True
        return long

    def _finish(self, now):
        # every fresh reading is judged once per scan
        self._open_scan = False
        self.scans = (self.scans + 1) & 0x1FFFFFFF
        self.limits.scanned(now)

    def _pieces(self, now):
        """Pieces of work until all is done, or a frame has come."""
        while True:
            if self.limits.judging:
                self.limits.go_on(now)
            else:
                self._piece(now)
            if not self.limits.judging and not self._work or self.board.pending():
                return

    def _piece(self, now):
        """One piece of a tick's work."""
        work = self._work
        if work == _JUDGE:
            self._judge(now)
        elif work == _ACT:
            self._act(now)
        elif work == _COMMANDS:
            self.console.step(now)
        elif work == _BALANCE:
            self.balancing.step(now)
        elif work == _POWER:
            self.soc.step(now)
            self.power.step(now)
        else:
            self._report(now)
        if work == _COMMANDS:
            self._reports = not self._reports
            self._work = _REPORT if self._reports else _BALANCE
        else:
            self._work = work + 1 if work < _POWER else _NONE

    def _judge(self, now):
        self.strings.link_mv = self.board.link_mv()
        if self._voltages:
            for s in range(self.pack.strings):
                self.limits.measured(s, self.board.string_mv(s), now)
        self.inputs.step(now)
        for source in self.sources:
            source.tick(now)
        self.limits.aged(now)
        self._evidence |= _JUDGED

    def _act(self, now):
        self.strings.step(now)
        if self._proving:
            self._prove(now)
        self._evidence |= _ACTED

    def _report(self, now):
        self.freeze.step(now)
        self.keeper.step(now)
        self.telemetry.look(now)
        if self._unlocked and ticks.diff(now, self._lock_at) >= 0:
            self._unlocked = False
            self.faults.gone(MEMORY_ERROR)
            heap_lock.lock()
        self._evidence |= _REPORTED

    def _tell(self):
        """A piece of a line: what is new comes before what was stored."""
        recall = self.recall
        if recall.building or recall.job != NOTHING and not self.telemetry.busy():
            recall.step()
        else:
            self.telemetry.step()

    def _feed(self, now):
        """Feed the watchdog and toggle the heartbeat, where every stage did its part since."""
        if self._evidence == _ALL and ticks.diff(now, self._feed_at) >= _FEED_MS:
            self._feed_at = now
            # the scan must prove itself again within its own period
            late = ticks.diff(now, self._scan_at) > self._period
            self._evidence = 0 if late else _SCANNED
            self.board.feed()

    def _rest(self):
        """ms until the next thing that is due by time; bytes that come end the wait before."""
        if self._work or self.limits.judging:
            return 0
        if self.telemetry.busy() or self.recall.job != NOTHING:
            return 1
        rest = ticks.diff(self._scan_at, self.clock.now)
        tick = ticks.diff(self._tick_at, self.clock.now)
        if tick < rest:
            rest = tick
        for driver in self._slow:
            due = driver.rest(self.clock.now)
            if due < rest:
                rest = due
        return rest if rest > 0 else 0
