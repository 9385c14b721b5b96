"""The C example of a slave board compiles, and sends byte for byte what the Python one sends."""

import ctypes
import importlib.util
import random
import shutil
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "slave"
CC = shutil.which("cc")

HARNESS = """
#include "{source}"
static int16_t mv_now[32], dc_now[16];
static uint16_t faults_now;
static uint8_t worst_now, sent[64][16];
static uint32_t mask_now;
static int count;
void board_measure(int16_t *mv, int16_t *dc)
{{
    memcpy(mv, mv_now, sizeof mv_now);
    memcpy(dc, dc_now, sizeof dc_now);
}}
void board_balance(uint32_t mask) {{ mask_now = mask; }}
int board_degc(void) {{ return 25; }}
uint16_t board_faults(uint8_t *worst) {{ *worst = worst_now; return faults_now; }}
void board_send(uint16_t ident, const uint8_t *data, uint8_t n, uint32_t delay_us)
{{
    uint8_t *to = sent[count++ & 63];
    to[0] = (uint8_t)ident, to[1] = (uint8_t)(ident >> 8), to[2] = n;
    to[3] = (uint8_t)(delay_us / 300);
    memcpy(to + 4, data, n);
}}
int16_t *mv_of(void) {{ return mv_now; }}
int16_t *dc_of(void) {{ return dc_now; }}
void report(uint16_t faults, uint8_t worst) {{ faults_now = faults; worst_now = worst; }}
uint32_t mask_of(void) {{ return mask_now; }}
int took(uint8_t *out) {{ int n = count; memcpy(out, sent, sizeof sent); count = 0; return n; }}
"""


@pytest.fixture(scope="module")
def python() -> ModuleType:
    spec = importlib.util.spec_from_file_location("example", FOLDER / "cell_link_slave.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Any:
    if CC is None:
        pytest.skip("no C compiler here")
    folder = tmp_path_factory.mktemp("slave")
    source = FOLDER / "cell_link_slave.c"
    (folder / "harness.c").write_text(HARNESS.format(source=source))
    words = [CC, "-std=c99", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([*words, "-o", folder / "slave.so", folder / "harness.c"], check=True)
    lib: Any = ctypes.CDLL(str(folder / "slave.so"))
    lib.mv_of.restype = lib.dc_of.restype = ctypes.POINTER(ctypes.c_int16)
    lib.mask_of.restype = ctypes.c_uint32
    return lib


class Pair:
    """Both examples as the same board; `receive` and `tick` compare what they send."""

    def __init__(self, python: ModuleType, lib: Any, node: int, uart: bool, serial: int) -> None:
        self.lib = lib
        self.mv: list[int | None] = [3300 + i for i in range(13)]
        self.dc: list[int | None] = [200 + i for i in range(5)]
        self.mask = 0
        lib.report(0, 0)
        lib.slave_init(node, 13, 5, serial, uart)
        self.slave = python.CellLinkSlave(
            node, 13, 5, serial, lambda: (self.mv, self.dc), self._balance, uart
        )
        self._same(self.slave.boot(), lib.slave_boot)

    def _balance(self, mask: int) -> None:
        self.mask = mask

    def _same(self, want: list[tuple[int, bytes]], call: Any) -> list[tuple[int, bytes]]:
        for i, value in enumerate(self.mv):
            self.lib.mv_of()[i] = -32768 if value is None else value
        for i, value in enumerate(self.dc):
            self.lib.dc_of()[i] = -32768 if value is None else value
        self.lib.report(self.slave.faults, self.slave.worst_cell)
        call()
        out = ctypes.create_string_buffer(64 * 16)
        count = self.lib.took(out)
        rows = [out.raw[16 * i : 16 * i + 16] for i in range(count)]
        got = [(row[0] | row[1] << 8, row[4 : 4 + row[2]]) for row in rows]
        assert got == want
        assert all(300 * row[3] == self.slave.answer_delay_us for row in rows)
        assert self.lib.mask_of() == self.mask
        return got

    def receive(self, ident: int, data: bytes, now: int = 0) -> list[tuple[int, bytes]]:
        want = self.slave.receive(ident, data, now)
        return self._same(want, lambda: self.lib.slave_receive(ident, data, len(data), now))

    def tick(self, now: int) -> None:
        want = self.slave.tick(now)
        self._same(want, lambda: self.lib.slave_tick(now))


@pytest.mark.parametrize("uart", [False, True])
def test_both_examples_send_the_same(python: ModuleType, library: Any, uart: bool) -> None:
    pair = Pair(python, library, 5, uart, 1234)
    rng = random.Random(5)
    seq = 0
    for now in range(0, 200_000, 50):
        seq = (seq + 1) & 255
        pair.mv = [rng.choice([None, rng.randrange(8200)]) for _ in range(13)]
        pair.dc = [rng.choice([None, rng.randrange(-1100, 7300)]) for _ in range(5)]
        pair.slave.faults = rng.choice([0, 0, 0, 1, 0x300, 0x80FF])
        pair.slave.worst_cell = rng.randrange(14)
        pair.receive(python.SCAN << 6, bytes([seq, rng.randrange(2)]), now)
        answers = pair.receive(python.SCAN << 6 | 5, bytes([seq, 1]), now)
        assert len(answers) == 4 + 2 + 1 + (1 if uart and pair.slave.faults & 0xFF else 0)
        ident, payload = python.frame(
            python.BALANCE, 5, [*rng.randbytes(4), rng.randrange(4), seq, 0]
        )
        if rng.random() < 0.3:
            payload = payload[:-1] + bytes([payload[-1] ^ 4])
        pair.receive(ident, payload, now)
        pair.tick(now)
        pair.receive(rng.randrange(0x800), rng.randbytes(rng.randrange(9)), now)


@pytest.mark.parametrize("uart", [False, True])
def test_both_get_a_node_by_their_serial_number(
    python: ModuleType, library: Any, uart: bool
) -> None:
    pair = Pair(python, library, 63, uart, 4711)
    assert pair.receive(python.SCAN << 6, b"\x01\x01") == []
    assert pair.receive(python.HELLO << 6 | 63, b"")[0][0] == python.HELLO << 6 | 63
    assert pair.receive(python.ASSIGN << 6 | 63, (4712).to_bytes(4, "little") + b"\x07") == []
    assert pair.receive(python.ASSIGN << 6 | 63, (4711).to_bytes(4, "little") + b"\x07") != []
    assert pair.receive(python.HELLO << 6 | 7, b"")[0][0] == python.HELLO << 6 | 7


def test_both_write_and_read_the_same_bytes_of_a_uart(python: ModuleType, library: Any) -> None:
    pair = Pair(python, library, 5, True, 1234)
    framer = python.UartFramer()
    rng = random.Random(6)
    out = ctypes.create_string_buffer(16)
    for _ in range(2000):
        ident = rng.randrange(0x800)
        data = bytes(rng.choice([0, rng.randrange(256)]) for _ in range(rng.randrange(9)))
        n = library.slave_uart_encode(ident, data, len(data), out)
        assert out.raw[:n] == framer.encode(ident, data)
    line = b""
    for seq in range(40):
        line += framer.encode(python.SCAN << 6 | 5, bytes([seq, 0])) + rng.randbytes(
            rng.randrange(40)
        )
        line += b"\0"
    want: list[tuple[int, bytes]] = []
    for ident, data in python.UartFramer().feed(line):
        want += pair.slave.receive(ident, data, 0)

    def feed() -> None:
        for byte in line:
            library.slave_uart_byte(byte, 0)

    # the harness keeps the last 64 frames
    for i, value in enumerate(pair.mv):
        library.mv_of()[i] = value
    for i, value in enumerate(pair.dc):
        library.dc_of()[i] = value
    feed()
    ring = ctypes.create_string_buffer(64 * 16)
    assert library.took(ring) == len(want) == 40 * 7
    rows = [ring.raw[16 * (i & 63) : 16 * (i & 63) + 16] for i in range(len(want) - 64, len(want))]
    assert [(row[0] | row[1] << 8, row[4 : 4 + row[2]]) for row in rows] == want[-64:]
