"""The Tesla driver against a scripted chain of modules."""

from slave_bench import SlaveBench

from bms.protection import fault_ids as F
from bms.slaves.tesla_s import celsius
from fakes import Random


def crc(data):
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value << 1 ^ 0x107) if value & 0x80 else value << 1
    return value


class Module:
    """status: its latches; lasting: what comes back into them `back_ms` after they were cleared."""

    def __init__(self):
        self.address = 0
        self.mv = [3700 + i for i in range(6)]
        self.raw = [4337, 4337]
        self.status = bytes(4)
        self.lasting = bytes(4)
        self.written = []
        self.cleared_ms = []
        self.ms = lambda: 0

    def write(self, register, value):
        self.written = self.written[-20:] + [(register, value)]
        if (register, value) == (0x20, 0xFF):
            self.status = b"\x10" + self.status[1:]  # as if its bit FORCE were set
        elif (register, value) == (0x21, 0xFF):
            self.status = self.status[:1] + b"\x10\0\0"
            self.cleared_ms.append(self.ms())
        elif register == 0x20:
            self.status = b"\0" + self.status[1:]
        elif register == 0x21:
            self.status = self.status[:1] + b"\0" + self.status[2:]

    def says(self):
        if not self.cleared_ms or self.ms() - self.cleared_ms[-1] >= 3100:
            self.status = bytes([a | b for a, b in zip(self.status, self.lasting)])
        return self.status


class Chain:
    """Modules in order; echo: an adapter returns what it sends; lose: numbers of commands lost;
    mute: (register, times): so many answers to words to it get lost, not the words.
    """

    def __init__(self, count):
        self.modules = [Module() for _ in range(count)]
        self.echo = False
        self.lose = ()
        self.mute = (0, 0)
        self.count = 0
        self.requests = []

    def find(self, address):
        for module in self.modules:
            if module.address == address:
                return module
        return None

    def __call__(self, request):
        self.count += 1
        answer = b"" if self.count in self.lose else self.answer(request)
        if request[0] & 1 and self.mute[1] and request[1] == self.mute[0]:
            self.mute = (self.mute[0], self.mute[1] - 1)
            answer = b""
        return request + answer if self.echo else answer

    def answer(self, word):
        address, register, value = word[0] >> 1, word[1], word[2]
        self.requests = self.requests[-40:] + [word]
        if word[0] & 1:
            assert crc(word[:3]) == word[3], word
            if address == 0x3F:
                for module in self.modules:
                    if register == 0x3C:
                        module.address = 0
                    else:
                        module.write(register, value)
                return word if self.modules else b""
            module = self.find(address)
            if module is None:
                return b""
            if register == 0x3B:
                module.address = value & 0x3F
            else:
                module.write(register, value)
            return word
        module = self.find(address)
        if module is None:
            return b""
        data = b"\x61"
        if register == 1:
            words = [sum(module.mv) * 16383 // 33333]
            words += [(v * 16383 + 3125) // 6250 for v in module.mv] + module.raw
            data = b"".join([bytes([w >> 8, w & 255]) for w in words])
        elif register == 0x20:
            data = module.says()
        body = bytes([word[0], register, value]) + data
        check = bytes([crc(body)])
        return (bytes([0x80]) + body[1:] if not address else body) + check


def bench(count=2, chain=None, cells=6, temps=2, **more):
    chain = chain or Chain(count)
    shapes = tuple([(i + 1, cells, temps) for i in range(count)])
    b = SlaveBench("tesla_s", shapes, reply=chain, **more)
    b.chain = chain
    for module in chain.modules:
        module.ms = lambda: b.board.clock.total_ms
    b.run(120)
    return b


def damaged_once(b, changes):
    """The next sample arrives with changes (at, xor), and a CRC that fits; b.chain.samples: polled
    for so often since.
    """
    chain = b.chain
    chain.samples = 0

    def reply(word):
        answer = chain(word)
        if word[1] == 1 and not word[0] & 1:
            chain.samples += 1
            if chain.samples == 1:
                for at, by in changes:
                    answer = answer[:at] + bytes([answer[at] ^ by]) + answer[at + 1 :]
                answer = answer[:-1] + bytes([crc(answer[:-1])])
        return answer

    b.reply = reply


def test_the_chain_is_addressed_with_the_documented_words():
    b = bench(2)
    polled = [bytes(word) for word in b.requests]
    for text in ("7f3ca557", "000001", "013b818b", "020001"):
        assert bytes.fromhex(text) in polled, text
    assert [m.address for m in b.chain.modules] == [1, 2]
    assert b.driver.starts == 1 and b.driver.found == 2


def test_modules_are_sampled_with_the_documented_words_and_read():
    b = bench(2).greet()
    b.chain.modules[1].mv[5] = 4199
    b.requests = []
    b.scan()
    words = ("03303df7", "03310358", "03340117", "020112", "022004")
    assert b.requests[:5] == [bytes.fromhex(text) for text in words]
    assert b.mv() == [3700 + i for i in range(6)] + [3700, 3701, 3702, 3703, 3704, 4199]
    assert all([248 <= dc <= 252 for dc in b.dc()])
    assert b.names() == [] and b.pack.stack_ok[0] == 1


def test_temperatures_are_within_three_tenths_of_the_formula():
    b = bench(1).greet()
    for raw in range(700, 14000, 97):
        b.chain.modules[0].raw = [raw, raw]
        b.scan()
        assert -3 <= b.dc()[0] - 10 * celsius(raw) <= 3, raw
        assert -12 <= b.dc()[1] - b.dc()[0] <= 12
    b.old()
    for raw in (0, 16383):
        b.chain.modules[0].raw = [raw, raw]
        b.scan()
        assert b.dc() == [None, None]


def test_a_word_lost_at_the_start_costs_a_try_and_no_order():
    for lost in range(1, 14):
        chain = Chain(3)
        chain.lose = (lost,)
        b = bench(3, chain)
        chain.modules[2].mv = [3900] * 6
        b.run(300)
        b.greet()
        assert [m.address for m in chain.modules] == [1, 2, 3], lost
        assert b.mv()[12:] == [3900] * 6 and b.mv()[0] == 3700


def test_a_lost_address_does_not_lengthen_the_wait_for_answers():
    chain = Chain(3)
    b = bench(3, chain).greet()
    for again in range(3):
        lost = []

        def reply(word):
            if word[1] == 0x3B and not lost:
                lost.append(word)
                return b""
            return chain(word)

        b.reply = reply
        chain.modules[0].address = 9  # it restarted
        starts = b.driver.starts
        for _ in range(12):
            b.begin()
            b.run(50)
        b.reply = chain
        assert lost and b.driver.starts == starts + 2, again
        b.old()
        b.scan()
        assert None not in b.mv()
    chain.mute = (0x34, 1)  # a missed answer still costs what it costs a chain found at once
    b.old()
    assert b.scan() < 40


def test_fewer_modules_are_not_read_and_one_more_is_a_mismatch():
    b = bench(3, Chain(2))
    b.run(500)
    b.scan()
    assert b.mv() == [None] * 18 and list(b.pack.known) == [0, 0, 0] and b.driver.starts > 3
    b = bench(2, Chain(3))
    b.run(500)
    assert b.names() == ["slave_mismatch"]


def test_a_chain_that_is_not_complete_is_reported_with_what_answers_and_what_is_missing():
    for there in (0, 1, 2):
        chain = Chain(3)
        b = bench(3, chain).greet()
        missing = chain.modules[there:]
        del chain.modules[there:]
        for _ in range(10):
            b.begin()
            b.run(400)
        assert "chain_incomplete" in b.names(), there
        place, value = b.faults.place, b.faults.value
        assert (place[F.CHAIN_INCOMPLETE], value[F.CHAIN_INCOMPLETE]) == (there, there)
        for module in missing:
            module.address = 0
        chain.modules += missing
        b.run(3000)
        b.greet()
        assert "chain_incomplete" not in b.names() and None not in b.mv()
    b = bench(3, Chain(2))  # from the start, with modules that come later
    b.run(3000)
    assert b.names() == ["chain_incomplete"]
    assert (b.faults.place[F.CHAIN_INCOMPLETE], b.faults.value[F.CHAIN_INCOMPLETE]) == (2, 2)


def test_one_module_more_stays_a_mismatch_on_a_noisy_line():
    chain = Chain(3)
    random = Random(7)
    b = bench(2, chain)
    b.reply = lambda word: b"" if not random.below(100) else chain(word)
    while b.driver.starts < 1000:
        b.run(1000)
        b.begin()
        assert list(b.pack.known) == [0, 0] and b.mv() == [None] * 12, b.driver.starts
    assert b.names() == ["slave_mismatch"]


def behind_an_adapter(count, ms, modules=0, **more):
    """A chain whose answers come `ms` after the words."""
    chain = Chain(modules or count)
    shapes = tuple([(i + 1, 6, 2) for i in range(count)])
    b = SlaveBench("tesla_s", shapes, reply=chain, **more)
    b.chain = chain
    for module in chain.modules:
        module.ms = lambda: b.board.clock.total_ms
    waiting = []
    b.reply = lambda word: waiting.append((b.board.clock.total_ms + ms, chain(word)))
    step = b.step

    def late(each=1):
        step(each)
        while waiting and waiting[0][0] <= b.board.clock.total_ms:
            b.give(waiting.pop(0)[1])

    b.step = late
    return b


def test_a_chain_behind_an_adapter_that_answers_late_is_found_and_read():
    for ms in (1, 6, 12, 16, 30):
        b = behind_an_adapter(3, ms)
        b.run(2000)
        assert b.driver.found == 3, ms
        b.greet()
        missed = b.driver.missed
        for _ in range(3):
            b.old()
            b.scan()
            assert None not in b.mv(), ms
        assert b.driver.missed == missed
        assert [m.address for m in b.chain.modules] == [1, 2, 3]


def test_the_answer_of_the_pack_file_counts_at_the_start_and_in_the_time_of_a_scan():
    b = behind_an_adapter(2, 16, link='answer = "20 ms"')
    b.run(500)
    assert b.driver.starts == 1 and b.driver.found == 2
    words = 2 * 6  # of both modules, with the one that ends balancing
    assert b.driver.scan_ms(b.config) >= words * 20
    b.greet()
    assert 2 * 5 * 16 <= b.scan() <= b.driver.scan_ms(b.config) and b.driver.missed == 0


def test_one_module_more_stays_a_mismatch_behind_an_adapter():
    b = behind_an_adapter(2, 16, 3)
    b.run(3000)
    assert b.names() == ["slave_mismatch"] and b.mv() == [None] * 12
    b.run(3000)
    assert b.names() == ["slave_mismatch"] and b.mv() == [None] * 12


def test_a_scan_between_the_two_words_that_clear_an_alert_reads_no_alert():
    b = behind_an_adapter(2, 6)
    b.run(2000)
    b.greet()
    for module in b.chain.modules:
        write = module.write

        def kept(register, value, module=module, write=write):
            write(register, value)
            if value == 0xFF:  # what was written stays to be read until 00 is
                at = register - 0x20
                module.status = module.status[:at] + b"\xff" + module.status[at + 1 :]

        module.write = kept
        module.lasting = bytes([0x40, 0x20, 0, 0])  # only warns
    for _ in range(300):
        b.begin()  # each before the one before is over: a command between two of them
        b.run(50)
        assert not alarmed(b)
    assert len(b.chain.modules[0].cleared_ms) > 2 and b.pack.slave_flags[0] == 64 << 8


def test_whoever_is_lost_all_are_addressed_anew():
    b = bench(3).greet()
    b.chain.modules[1].address = 0  # a reset
    b.scan()
    b.scan()
    b.run(150)
    b.greet()
    assert b.driver.starts == 2 and [m.address for m in b.chain.modules] == [1, 2, 3]
    assert None not in b.mv()


def test_balancing_is_commanded_behind_each_scan_and_stopped_before_the_next():
    b = bench(2).greet()
    module = b.chain.modules[0]
    module.written = []
    b.pack.balance_mask[0] = 0b100001
    b.run(300)
    assert module.written == [(0x33, 0x81), (0x32, 0b100001)]
    module.written = []
    b.scan()
    b.run(300)
    assert module.written[0] == (0x32, 0)
    assert module.written[-2:] == [(0x33, 0x81), (0x32, 0b100001)]
    assert b.pack.cell_flags[0] & 2
    b.pack.balance_mask[0] = 0
    b.scan()
    b.run(300)
    assert module.written[-1] == (0x32, 0) or (0x34, 1) in module.written


def test_a_module_that_may_balance_is_stopped_and_its_readings_show_it():
    b = bench(1).greet()
    module = b.chain.modules[0]
    b.pack.balance_mask[0] = 0b000010
    b.chain.mute = (0x32, 99)  # it received the mask; nobody received its answer
    b.run(300)
    assert (0x32, 0b000010) in module.written
    b.chain.mute = (0, 0)
    b.pack.balance_mask[0] = 0
    module.written = []
    b.begin()
    b.step(0)
    b.run(10)
    assert module.written[0] == (0x32, 0) and b.pack.cell_flags[1] & 2


def test_the_command_that_ends_balancing_is_sent_until_it_is_answered():
    b = bench(1).greet()
    b.pack.balance_mask[0] = 1
    b.run(300)
    module = b.chain.modules[0]
    assert module.written[-1] == (0x32, 1)
    b.pack.balance_mask[0] = 0
    count = b.chain.count
    b.chain.lose = (count + 1, count + 2)
    module.written = []
    b.run(600)
    assert module.written == [(0x32, 0)]


def test_who_is_lost_is_addressed_anew_where_scans_run_late_too():
    b = bench(2).greet()
    b.chain.modules[1].address = 0
    for _ in range(400):
        b.begin()  # each before the one before is over
        b.step()
    assert b.driver.late > 10 and b.driver.starts == 2
    b.old()
    b.greet()
    assert None not in b.mv()


def test_no_scan_begins_by_itself_behind_a_start():
    b = bench(2).greet()
    b.chain.modules[1].address = 0
    damaged_once(b, [])
    b.begin()
    b.step()
    b.begin()  # waits for the end of the one before, which ends with somebody lost
    b.run(300)
    assert b.driver.late == 1 and b.driver.starts == 2 and b.driver.done
    assert b.chain.samples == 1


def test_who_does_not_answer_that_it_stopped_keeps_nobody_from_being_commanded():
    b = bench(3).greet()
    for i in range(3):
        b.pack.balance_mask[2 * i] = 1
    b.run(300)
    assert [m.written[-1] for m in b.chain.modules] == [(0x32, 1)] * 3
    for i in range(3):
        b.pack.balance_mask[2 * i] = 0
    b.chain.mute = (0x32, 9999)
    b.run(200)
    assert [m.written[-1] for m in b.chain.modules] == [(0x32, 0)] * 3


def test_the_time_of_a_scan_counts_the_pause_of_balancing():
    b = SlaveBench("tesla_s", tuple([(i + 1, 6, 2) for i in range(16)]), reply=Chain(16))
    least = b.driver.scan_ms(b.config)
    b.run(500)
    b.greet()
    for i in range(16):
        b.pack.balance_mask[2 * i] = 1
    b.run(1500)
    # four words, the sample, the status of each; a ms for each, as the bench takes it
    assert least == 16 * 6 + 16 * (4 * 8 + 25 + 11) * 10000 // 612500 + 1
    assert 16 * 6 <= b.scan() <= least


def test_alerts_that_trip_must_be_said_twice():
    b = bench(1).greet()
    chain = b.chain
    alarmed = []

    def once(word):
        if word[1] == 0x20 and not word[0] & 1 and not alarmed:
            alarmed.append(1)
            body = bytes(word) + bytes([0, 0, 4, 0])
            return body + bytes([crc(body)])
        return chain(word)

    b.reply = once
    b.scan()
    b.scan()
    assert alarmed and b.names() == [] and b.pack.slave_flags[0] == 0


def alarmed(b):
    return bool(b.faults.active[b.faults.slot(F.SLAVE_ALARM, 0)])


def scans(b, ms, each=200):
    """Scans for so long."""
    for _ in range(ms // each):
        b.run(each - b.scan())


def test_alerts_end_once_their_latches_are_cleared():
    b = bench(2).greet()
    module = b.chain.modules[1]
    scans(b, 6000)
    module.written = []
    for status, flags in (((1, 0, 0, 0), 4), ((0, 1, 2, 0), 1), ((0, 2, 0, 4), 2)):
        module.status = bytes(status)
        b.scan()
        assert alarmed(b) and b.pack.slave_flags[1] == flags
        scans(b, 10000)
        assert not alarmed(b) and b.pack.slave_flags[1] == 0
        assert module.written[-20:].count((0x20, 0xFF)) <= 2
        b.faults.acknowledge()
        assert b.names() == []
    assert b.chain.modules[0].cleared_ms[1:] == []  # the others have nothing to clear


def test_an_alert_that_lasts_stays_while_its_latches_are_cleared():
    b = bench(1, ms=100000).greet()
    module = b.chain.modules[0]
    for lasting in ((2, 0, 0, 0), (0, 1, 1, 0), (0x40, 0x20, 0, 0)):
        module.lasting = bytes(lasting)
        scans(b, 4000)
        count = len(module.cleared_ms)
        for _ in range(300):
            b.run(100 - b.scan())
            b.faults.acknowledge()
            assert alarmed(b) or lasting[0] == 0x40, b.board.clock.total_ms
        gaps = [t - module.cleared_ms[i] for i, t in enumerate(module.cleared_ms[1:])]
        assert len(module.cleared_ms) - count >= 5 and min(gaps) >= 4900, gaps
        module.lasting = bytes(4)
        scans(b, 10000)
        assert not alarmed(b)


def test_latches_are_not_cleared_before_their_alarm_is_believed():
    b = bench(1).greet()
    module = b.chain.modules[0]
    scans(b, 6000)
    module.written = []
    said = []

    def once(word):
        if word[1] != 0x20 or word[0] & 1 or said:
            return b.chain(word)
        said.append(1)
        body = bytes(word) + bytes([1, 0, 0, 0])
        return body + bytes([crc(body)])

    b.reply = once
    b.scan()
    b.run(300)
    assert said and b.names() == [] and (0x20, 0xFF) not in module.written


def test_the_words_that_clear_are_said_until_they_are_answered():
    b = bench(1).greet()
    module = b.chain.modules[0]
    scans(b, 6000)
    for register in (0x20, 0x21):
        module.status = bytes([1, 1, 1, 0])
        module.written = []
        b.chain.mute = (register, 5)
        b.scan()
        b.run(1000)
        words = [word for word in module.written if word[0] in (0x20, 0x21)]
        assert len(words) == 8 and words[0] == (0x20, 0xFF)
        assert words[-1] == (0x21, 0) and (0x20, 0) in words
        assert module.status == bytes(4)
        scans(b, 6000)


def test_clearing_that_is_not_answered_hides_no_alert_and_keeps_nobody_from_balancing():
    b = bench(3).greet()
    for module in b.chain.modules:
        module.lasting = bytes([1, 1, 1, 0])

    def deaf(word):
        answer = b.chain(word)
        return b"" if word[0] & 1 and word[1] in (0x20, 0x21) else answer

    b.reply = deaf
    for i in range(3):
        b.pack.balance_mask[2 * i] = 1
    scans(b, 6000)
    for _ in range(150):
        b.run(150 - b.scan())
        b.faults.acknowledge()
        assert alarmed(b)
        for module in b.chain.modules:
            assert [word for word in module.written if word[0] == 0x32][-1] == (0x32, 1)


def test_an_echoing_adapter_gives_no_wrong_reading():
    chain = Chain(2)
    chain.echo = True
    b = bench(2, chain)
    b.run(200)
    b.greet()
    assert b.driver.link.echoing == 1
    for k in range(600):  # a CRC of 8 bits fits a shifted answer once in 256
        chain.modules[0].mv = [3600 + k % 200, 3700 - k % 90, 3650, 3651 + k % 7, 3652, 3653]
        b.scan()
        assert b.mv()[:6] == chain.modules[0].mv, k
    assert b.driver.link.damaged == 0


def test_a_module_whose_voltage_is_not_that_of_its_cells_is_not_read():
    b = bench(1).greet()
    b.old()
    chain = b.chain

    def apart(word):
        answer = chain(word)
        if word[1] == 1 and not word[0] & 1:
            answer = answer[:3] + b"\x1f\x00" + answer[5:-1]
            return answer + bytes([crc(answer)])
        return answer

    b.reply = apart
    b.scan()
    assert b.mv() == [None] * 6 and b.driver.damaged > 0


def test_a_reading_that_jumps_inside_its_bounds_must_be_said_twice():
    b = bench(1).greet()
    mv, dc, die, stack = b.mv(), b.dc(), b.pack.die_dc[0], b.pack.stack_mv[0]
    # cell 1 by 98 mV and by 391 mV, the sensors, and all that stands in the pack meanwhile
    for changes in ([(5, 1), (17, 16)], [(5, 4)], [(17, 8)], [(19, 8)]):
        damaged_once(b, changes)
        b.scan()
        assert b.chain.samples == 2, changes
        assert (b.mv(), b.dc()) == (mv, dc)
        assert b.pack.die_dc[0] == die and b.pack.stack_mv[0] == stack


def test_a_jump_that_nobody_says_again_is_not_taken():
    b = bench(1, temps=0).greet()
    mv, die, at = b.mv(), b.pack.die_dc[0], b.pack.stack_at[0]
    damaged_once(b, [(5, 4), (17, 8)])
    whole = b.reply
    b.reply = lambda word: whole(word) if word[1] != 1 or not b.chain.samples else None
    b.scan()
    assert b.mv() == mv and b.pack.die_dc[0] == die and b.pack.stack_at[0] == at


def test_a_step_of_the_load_costs_one_more_poll_and_is_read_in_the_same_scan():
    b = bench(2).greet()
    for by in (-300, 300, -90):
        for module in b.chain.modules:
            module.mv = [mv + by for mv in module.mv]
        damaged_once(b, [])
        b.scan()
        assert b.chain.samples == (2 if by == -90 else 4)
        assert b.mv() == b.chain.modules[0].mv + b.chain.modules[1].mv


def test_more_than_an_adc_of_14_bits_can_say_is_no_reading():
    b = bench(1).greet()
    # the module's voltage, then a cell's: what they say fits together
    for mv in ([5900] * 6, [3700] * 5 + [6300]):
        b.chain.modules[0].mv = mv
        b.old()
        b.scan()
        assert b.mv() == [None] * 6 and b.dc() == [None] * 2, mv
    assert b.driver.damaged == 2 and b.names() == []


def test_split_and_damaged_anywhere():
    b = bench(1).greet()
    chain = b.chain
    for at in range(1, 22):
        for how in range(2):

            def broken(word, at=at, how=how):
                answer = chain(word)
                if len(answer) != 22:
                    return answer
                return (
                    answer[:at] if how else answer[:at] + bytes([answer[at] ^ 8]) + answer[at + 1 :]
                )

            b.reply = broken
            b.old()
            b.scan()
            assert b.mv() == [None] * 6, (at, how)
            b.reply = chain
            b.run(200)
            b.scan()
            b.run(200)
            b.greet()


def test_the_cycle_does_not_allocate():
    b = bench(2).greet()
    b.run(200)
    answers = []
    for node in (1, 2):
        for word in ((0x30, 0x3D), (0x31, 3), (0x34, 1)):
            head = bytes([node << 1 | 1, word[0], word[1]])
            answers.append(head + bytes([crc(head)]))
        answers.append(b.chain.answer(bytes([node << 1, 1, 18])))
        answers.append(b.chain.answer(bytes([node << 1, 0x20, 4])))
    assert b.scans_without_heap(answers, 10, 1) == 100
    assert b.driver.missed == 0 and b.driver.starts == 1
