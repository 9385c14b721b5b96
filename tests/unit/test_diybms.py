"""The diyBMS driver against a scripted ring of modules."""

from slave_bench import SlaveBench

from bms.config.errors import ConfigError
from fakes import raises

RATE = 'rate = "10 kbit/s"'


def crc(data):
    """CRC-16/XMODEM, bit by bit."""
    value = 0
    for byte in data:
        value ^= byte << 8
        for _ in range(8):
            value = (value << 1 ^ 0x11021) if value & 0x8000 else value << 1
    return bytes([value & 255, value >> 8])


def wire(packet):
    out = b"\xaa"
    for byte in packet:
        out += bytes([0x88, byte & 0x7F]) if byte in (0xAA, 0x88) else bytes([byte])
    return out


def plain(data):
    """The packet in bytes on the wire."""
    assert data[0] == 0xAA
    out = []
    escaped = False
    for byte in data[1:]:
        if byte == 0x88 and not escaped:
            escaped = True
            continue
        out.append(byte | 0x80 if escaped else byte)
        escaped = False
    packet = bytes(out)
    assert len(packet) == 40 and crc(packet[:38]) == packet[38:]
    return packet


class Ring:
    """`mv`, flags, inside, outside of each module; writes: (start, end, words); hops: modules."""

    def __init__(self, count, mv=3300):
        self.mv = [mv + i for i in range(count)]
        self.flags = [0] * count
        self.inside = [30 + 40] * count
        self.outside = [25 + 40] * count
        self.threshold = [4100] * count
        self.writes = []
        self.hops = count
        self.silent = False
        self.requests = []
        self.lose_number = False

    def answer(self, packet):
        start, end, command = packet[0], packet[1], packet[2]
        self.requests.append((command, start, end))
        words = [packet[6 + 2 * i] | packet[7 + 2 * i] << 8 for i in range(16)]
        mine = [i for i in range(len(self.mv)) if start <= i <= end]
        for i in mine:
            k = i % 16
            if command == 1:
                words[k] = self.mv[i] | self.flags[i]
            elif command == 3:
                words[k] = self.inside[i] << 8 | self.outside[i]
            elif command == 5:
                words = [0] * 16
                words[7] = self.threshold[i]
            elif command == 6:
                self.threshold[i] = words[7]
        if command == 6:
            self.writes.append((start, end, words))
        number = b"\x77\x77" if self.lose_number else packet[4:6]
        out = bytes([start, end, command | (0x80 if mine else 0), self.hops]) + number
        for word in words:
            out += bytes([word & 255, word >> 8])
        return wire(out + crc(out))

    def __call__(self, request):
        return None if self.silent else self.answer(plain(request))


def bench(count=16, ring=None, temps=2, **more):
    blocks = []
    for first in range(0, count, 16):
        blocks.append((first // 16 + 1, min(16, count - first), temps))
    more.setdefault("link", RATE)
    ages = 'cell_age = "60 s"; temp_age = "120 s"'
    return SlaveBench("diybms", tuple(blocks), reply=ring or Ring(count), limits=ages, **more)


def test_the_documented_packet():
    b = bench()
    b.begin()
    b.step(0)
    packet = plain(b.requests[0])
    assert packet[:6] == bytes([0, 15, 1, 0, 1, 0]) and packet[6:38] == bytes(32)
    assert packet[38:] == b"\x68\x8a" and b.requests[0][-2:] == b"\x68\x8a"


def test_modules_are_read_in_blocks():
    ring = Ring(20)
    ring.outside[1] = 0
    b = bench(20, ring).greet()
    assert b.mv() == ring.mv
    assert b.dc() == [250, None, 250, 250]
    assert {(c, s, e) for c, s, e in ring.requests if c == 1} == {(1, 0, 15), (1, 16, 19)}
    assert list(b.pack.die_dc) == [300, 300] and b.pack.stack_mv[1] == sum(ring.mv[16:])
    assert b.driver.modules == 20


def test_more_or_fewer_modules_are_a_mismatch():
    for hops in (15, 17):
        ring = Ring(16)
        ring.hops = hops
        b = bench(16, ring)
        b.scan()
        b.scan()
        assert b.names() == ["slave_mismatch"] and b.mv() == [None] * 16


def test_a_zero_is_a_lost_calibration_and_no_reading():
    ring = Ring(4)
    b = bench(4, ring).greet()
    ring.mv[2] = 0
    b.old()
    b.scan()
    assert b.mv() == [3300, 3301, None, 3303]
    assert b.names() == []


def test_a_module_that_balances_reports_it():
    ring = Ring(4)
    b = bench(4, ring).greet()
    ring.flags[1] = 0x8000
    b.scan()
    assert [f & 2 for f in b.pack.cell_flags] == [0, 2, 0, 0] and b.mv()[1] == 3301


def test_a_module_as_warm_as_it_regulates_to_only_warns():
    ring = Ring(4)
    b = bench(4, ring).greet()
    ring.flags[3] = 0xC000
    b.scan()
    b.scan()
    assert b.names() == ["slave_warning"] and b.pack.slave_flags[0] == 0x0400
    ring.inside[3] = 136  # 96 degC
    for _ in range(10):
        b.scan()
        b.run(500, 20)
    assert "board_temp" in b.names()


def test_a_plan_that_ends_after_days_is_written_at_once():
    ring = Ring(4)
    b = bench(4, ring).greet()
    b.pack.balance_mask[0] = 1
    for _ in range(8):
        b.scan()
        b.run(200, 20)
    assert ring.threshold[0] < 4250
    for days in (3.2, 5.5):
        b.pack.balance_mask[0] = 1
        b.pass_ms(int(days * 86400000))
        b.pack.balance_mask[0] = 0
        for _ in range(6):
            b.scan()
            b.run(200, 20)
        assert ring.threshold == [4250] * 4, days
        ring.threshold = [3700] * 4
        for _ in range(30):
            b.scan()
            b.run(200, 20)


def test_an_open_thermistor_trips():
    ring = Ring(4)
    b = bench(4, ring).greet()
    ring.inside[0] = 0
    b.scan()
    assert b.names() == ["slave_alarm"] and b.pack.slave_flags[0] == 64
    b.begin()
    while not b.driver.done:
        b.step()
        assert b.pack.slave_flags[0] == 64  # voltages alone don't end it
    ring.inside[0] = 70
    b.scan()
    b.scan()
    assert b.pack.slave_flags[0] == 0


def test_a_board_temperature_that_nobody_says_any_more_ages():
    ring = Ring(4)
    b = bench(4, ring, temps=0).greet()
    assert b.pack.stack_ok[0] and b.pack.die_dc[0] == 300
    b.reply = lambda request: None if plain(request)[2] == 3 else ring(request)
    ring.inside = [150] * 4  # 110 degC, and nobody gets to know
    left = b.now
    while b.now - left < 62000:
        b.scan()
        b.run(1000, 50)
    assert not b.pack.stack_ok[0] and b.pack.die_dc[0] == 300
    assert b.mv() == ring.mv and b.names() == []  # nor is it an open thermistor
    b.reply = ring
    for _ in range(10):
        b.scan()
        b.run(500, 20)
    assert b.pack.stack_ok[0] and b.pack.die_dc[0] == 1100 and "board_temp" in b.names()


def test_a_stack_without_a_cell_that_is_read_has_no_voltage():
    ring = Ring(4)
    b = bench(4, ring).greet()
    b.pack.stack_ok[0] = 0
    ring.mv[2] = 0
    b.scan()
    assert not b.pack.stack_ok[0]
    ring.mv[2] = 3302
    b.scan()
    assert b.pack.stack_ok[0] and b.pack.stack_mv[0] == sum(ring.mv)


def test_a_threshold_of_zero_is_written_as_any_other():
    ring = Ring(4)
    ring.threshold[1] = 0
    b = bench(4, ring)
    for _ in range(8):
        b.scan()
        b.run(200, 20)
    assert ring.threshold == [4250] * 4 and len(ring.writes) == 1


def test_a_module_put_in_at_the_front_gives_nobody_its_neighbours_values():
    ring = Ring(4)
    b = bench(4, ring, temps=4).greet()
    b.old()
    b.reply = longer = Ring(5)
    b.scan()
    assert b.mv() == b.dc() == [None] * 4 and b.names() == ["slave_mismatch"]
    # one answer only reports it
    for command in (1, 3, 5):
        b = bench(4, ring, temps=4).greet()
        b.old()
        longer.requests = []
        longer.inside = [0, 136, 70, 70, 70]
        longer.outside = [100] * 5
        longer.threshold = [3000] * 5
        at = b.pack.stack_at[0]
        b.driver._scans_left[0] = 0  # settings are looked at
        b.reply = lambda request, command=command: (
            longer if plain(request)[2] == command else ring
        )(request)
        b.scan()
        assert [one[0] for one in longer.requests] == [command]
        assert b.mv() == ([None] * 4 if command == 1 else ring.mv) and b.names() == []
        assert b.dc() == ([None] * 4 if command == 3 else [250] * 4)
        assert (b.pack.stack_at[0] == at) == (command != 5)
        assert b.pack.slave_flags[0] == 0 and 3000 not in list(b.driver.threshold_mv)


def test_thresholds_are_read_then_moved_rarely_and_read_back():
    ring = Ring(4, 3900)
    b = bench(4, ring)
    for _ in range(6):
        b.scan()
        b.run(200, 20)
    # at rest: out of the way, which is where the pack file's cell_max is
    assert len(ring.writes) == 1 and ring.threshold == [4250] * 4
    start, end, words = ring.writes[0]
    assert (start, end) == (0, 3)
    assert words[2] == words[3] == 0xFFFF and words[6] == 0x00FF and words[7] == 4250
    for _ in range(6):
        b.scan()
        b.run(200, 20)
    assert list(b.driver.threshold_mv[:4]) == [4250] * 4
    b.pack.balance_mask[0] = 8
    b.scan()
    b.run(200, 20)
    # behind a start at once
    assert len(ring.writes) == 2 and ring.threshold == [3905] * 4  # lowest + balance_stop
    for _ in range(6):
        b.scan()
    b.run(700000, 1000)
    assert len(ring.writes) == 2  # where it should be
    ring.mv = [mv - 12 for mv in ring.mv]
    b.scan()
    b.run(700000, 1000)
    assert len(ring.writes) == 2  # 12 mV are not worth it


def test_the_end_of_balancing_is_written_at_once_and_the_next_target_late():
    ring = Ring(4, 3900)
    b = bench(4, ring)

    def scans(n=8):
        for _ in range(n):
            b.scan()
            b.run(200, 20)

    scans()
    b.pack.balance_mask[0] = 8
    scans()
    assert ring.threshold == [3905] * 4 and len(ring.writes) == 2
    b.pack.balance_mask[0] = 0  # as a trip does
    scans(1)
    assert ring.threshold == [4250] * 4 and len(ring.writes) == 3
    b.pack.balance_mask[0] = 8
    scans()
    b.run(500000, 1000)
    scans(2)
    assert len(ring.writes) == 3  # an EEPROM wears
    b.run(100000, 1000)
    assert len(ring.writes) == 4 and ring.threshold == [3905] * 4


def test_an_end_that_does_not_take_is_not_written_all_the_time():
    ring = Ring(4, 3900)
    b = bench(4, ring)
    for _ in range(100):
        b.scan()
        b.run(200, 20)
        ring.threshold = [3900] * 4
    seconds = b.board.clock.total_ms // 1000
    assert 1 <= len(ring.writes) <= 1 + seconds // 60


def test_a_ring_too_long_for_its_rate_is_refused_without_advice_that_is_refused():
    for modules, rate, fits in ((33, 2400, True), (34, 2400, False), (80, 9600, True)):
        blocks = [(i // 16 + 1, min(16, modules - i), 1) for i in range(0, modules, 16)]
        link = 'rate = "%d bit/s"; cell_age = "120 s"; temp_age = "120 s"' % rate
        if fits:
            SlaveBench("diybms", blocks, link=link)
            continue
        error = raises(ConfigError, lambda: SlaveBench("diybms", blocks, link=link))
        assert "write" not in error.reason and "higher rate" in error.reason


def test_an_answer_to_an_older_poll_is_stale():
    ring = Ring(4)
    b = bench(4, ring).greet()
    ring.lose_number = True
    b.old()
    b.scan()
    assert b.mv() == [None] * 4 and b.driver.stale > 0


def test_a_ring_without_modules_is_an_echo_and_no_mismatch():
    b = bench(4)
    b.reply = lambda request: request
    b.scan()
    b.scan()
    assert b.driver.link.echoes > 0 and b.names() == [] and b.mv() == [None] * 4


def test_split_anywhere_and_damaged_anywhere():
    ring = Ring(4)
    b = bench(4, ring).greet()
    for at in range(1, 41):
        for how in range(3):
            b.reply = ring
            b.scan()
            b.run(400, 20)
            b.reply = lambda request: None
            b.requests = []
            b.begin()
            b.step(0)
            b.old()
            whole = ring.answer(plain(b.requests[0]))
            if how == 0:
                b.give(whole[:at])
                assert b.mv() == [None] * 4
                b.give(whole[at:])
                assert b.mv() == ring.mv
            elif how == 1:
                b.give(whole[:at])
            else:
                b.give(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
            if how:
                b.run(3000, 20)
                assert b.mv() == [None] * 4, (at, how)


def test_silence_is_bounded():
    ring = Ring(16)
    b = bench(16, ring).greet()
    ring.silent = True
    # two polls of 0.7 s and the time to answer
    assert b.scan() < 2 * (17 * 450 // 10 + 500)
    assert b.driver.missed == 1


def test_the_check_of_the_pack_file_says_how_long_a_chain_takes():
    from fakes import raises

    error = raises(
        Exception,
        lambda: SlaveBench("diybms", ((1, 16, 2),), limits='cell_age = "5 s"'),
    )
    assert "a scan of uart0 takes" in str(error) and "noticed after that time" in str(error)


def test_the_cycle_does_not_allocate():
    ring = Ring(4)
    b = bench(4, ring).greet()
    for _ in range(6):
        b.scan()
        b.run(200, 20)
    number = b.driver._number
    answers = []
    for k in range(12):
        packet = bytes([0, 3, 1 if k % 2 == 0 else 3, 0]) + bytes(
            [(number + k + 1) & 255, (number + k + 1) >> 8]
        )
        packet += bytes(32)
        answers.append(ring.answer(packet + crc(packet)))
    b.driver._scans_left[0] = 100  # no settings meanwhile
    b.driver.command = lambda m, now: False
    assert b.scans_without_heap(answers, 6, 5) == 12
    assert b.driver.missed == b.driver.stale == 0
