"""The page of the cell link: the protocol for those who build a slave board, as Markdown.

Times come from the driver, example bytes from the simulator's encoder, which shares no code with
the driver; a test gives both to the firmware and to the examples in examples/slave.
"""

from bms.slaves import base
from bms.slaves import cell_link as driver
from bmssim import protocol as p

from .markdown import table

SEQ = 5
NODE = 3
SERIAL = 0x00012345
EXAMPLES: tuple[tuple[str, str, p.Frame], ...] = (
    ("master", "HELLO: asks node 3", p.Frame(p.HELLO << 6 | NODE, b"")),
    (
        "slave",
        "HELLO: version 1, 6 cells, 2 temperatures, balances by mask, serial 0x00012345",
        p.hello_frame(NODE, 6, 2, SERIAL),
    ),
    ("master", "SCAN to all: seq 5, pause balancing", p.Frame(p.SCAN << 6, bytes([SEQ, 1]))),
    (
        "slave",
        "CELLS 0: 3.301, 3.302, 3.303, 3.304 V",
        p.cells_frame(NODE, 0, [3301, 3302, 3303, 3304], SEQ),
    ),
    ("slave", "CELLS 1: 3.305 V, no valid reading", p.cells_frame(NODE, 1, [3305, None], SEQ)),
    ("slave", "TEMPS 0: 25.1, -5.5 degC", p.temps_frame(NODE, 0, [251, -55], SEQ)),
    (
        "slave",
        "STATUS: 16.51 V, no faults, board 25 degC, not balancing",
        p.status_frame(NODE, 16_510, 0, 25, 0, SEQ),
    ),
    (
        "master",
        "BALANCE: cells 2 and 3 for 5 s",
        p.checksummed(p.BALANCE, NODE, bytes([0b110, 0, 0, 0, 5, SEQ, 0])),
    ),
    (
        "slave",
        "ALARM: fault bit 0, worst cell 2, 3.302 V",
        p.alarm_frame(NODE, 1, 2, 3302, SEQ),
    ),
    (
        "master",
        "ASSIGN: the board with serial 0x00012345 gets node 3",
        p.Frame(p.ASSIGN << 6 | p.UNADDRESSED, SERIAL.to_bytes(4, "little") + bytes([NODE])),
    ),
)

FUNCTIONS = [
    ["00 ALARM", "slave", "faults U16, worst cell U8 (1.., 0: none), its mV U16, seq U8, CRC-8"],
    ["01 SCAN", "master", "seq U8, flags U8: bit 0: pause balancing while sampling; others 0"],
    ["02 BALANCE", "master", "mask U32 (bit n: cell n+1), timeout U8 in s, seq U8, 0, CRC-8"],
    ["03 HELLO", "master", "empty: asks for the slave's HELLO"],
    ["03 HELLO", "slave", "version U8 = 1, cells U8, temperatures U8, abilities U8, serial U32"],
    ["04 ASSIGN", "master", "serial U32, new node U8; sent to node 63"],
    ["08..0F CELLS k", "slave", "cells 4k+1 .. 4k+4: 13 bits each in mV, seq 4 bits, CRC-8"],
    [
        "10..13 TEMPS k",
        "slave",
        "temperatures 4k+1 .. 4k+4: 13 bits each in 0.1 degC above -100 degC, seq 4 bits, CRC-8",
    ],
    [
        "14 STATUS",
        "slave",
        "stack voltage U16 in 10 mV, faults U16, board temperature U8 in degC + 40,"
        " balancing duty U8 in %, seq U8, CRC-8",
    ],
]

FRAMES = """\
## Frames

CAN 2.0A, 500 kbit/s by default. Identifier = function << 6 | node. Node 1..62; 0: all; 63: a board
without a node. Bits and bytes are little-endian; the first value stands in the lowest bits. At most
32 cells and 16 temperatures on one board."""

RULES = """\
8191 in 13 bits: no valid reading. Never send a zero or an old value instead.

CRC-8: SAE J1850 (polynomial 1D, start FF, final xor FF) over identifier high byte, identifier low
byte and the payload before it. CELLS and TEMPS carry the low 4 bits of seq.

seq is that of the SCAN that is answered. A frame with another seq is counted as stale and dropped.
A board answers a SCAN with all its CELLS, TEMPS and one STATUS, and sends nothing else unless it
has an ALARM.

**CAN:** a SCAN to node 0 makes all boards sample at that moment and answer. A SCAN to one node with
the same seq asks it again: it sends the same sample once more.

**UART:** 1 Mbit/s, 8N1 by default. COBS around identifier low, identifier high, payload,
CRC-16/CCITT-FALSE low, high; a byte 00 after each frame. A SCAN to node 0 makes all boards sample,
and none answers. A SCAN to a node with that seq asks it for its answers. A board never sends
without being polled; its ALARM goes in front of its other answers.

The voltage of the worst cell in an ALARM is compared with the hard bounds like a reading."""

BITS = """\
## Bits

**Abilities** in HELLO: bit 0: the board balances the cells of a mask. All other bits are reserved:
send 0. The master does not evaluate them in protocol version 1.

**Faults** in STATUS and ALARM: any bit of the low byte (0..7) trips the master: `slave_alarm`. Any
bit of the high byte (8..15) only warns: `slave_warning`. Both carry the bits as their value. The
protocol gives no bit a meaning of its own; a board's manual must. Suggested for the low byte, since
all other kinds use it:"""

START = """\
## Start and node numbers

On CAN a board sends HELLO once when it has started. A HELLO that was not asked for tells the master
that a known board has started again and has forgotten what it was balancing (`slave_reboot`). A
board whose version, cells, temperatures or serial number are not those of the pack file is a
`slave_mismatch`. More temperatures than the pack file has are allowed.

A board without a node uses node 63. It answers HELLO on node 63 after (serial mod 64) x 0.3 ms, and
does not answer SCAN. A board whose serial number stands in an ASSIGN takes the node and sends
HELLO from it. It may store the node; it need not. The master compares the lower 30 bits of serial
numbers; 0 in the pack file allows any."""


def _deadlines() -> list[str]:
    """What must come in what time, from the driver."""
    quiet, again = driver._QUIET_MS, driver._BALANCE_AGAIN_MS
    return table(
        ["what", "time"],
        [
            ["answer to a SCAN: first frame", f"{quiet} ms after its last bit, at the latest"],
            ["answer to a SCAN: each further frame", f"{quiet} ms after the one before"],
            [
                "a board that answers late or not at all",
                "is polled again by its node, at most twice in a scan",
            ],
            ["all answers", "before the next SCAN, `scan_period` (100 ms by default) later"],
            ["readings", "not older than `cell_age` (500 ms by default), otherwise a trip"],
            [
                "HELLO, while boards are unknown",
                f"asked of all every {driver._HELLO_MS} ms (CAN), of one node every {quiet} ms",
            ],
            [
                "HELLO that does not fit the pack file",
                f"believed when sent {driver._MISFITS} times",
            ],
            [
                "two boards with one node",
                f"`slave_conflict` after {base._CONFLICTS} scans with contradicting answers",
            ],
            [
                "BALANCE",
                f"sent when it changes and every {again // 1000} s; the board stops by itself when"
                f" its timeout ({driver._BALANCE_S} s) has passed",
            ],
            [
                "ALARM on CAN",
                "at once, then every 100 ms while it lasts; without one, and without a fault bit in"
                f" STATUS, for {base.Driver.ALARM_MS} ms it has ended",
            ],
        ],
    )


def lines() -> list[str]:
    """The page without its head."""
    bits = ", ".join(f"{i} {name}" for i, name in enumerate(base.ALARMS))
    rows = [
        [
            sender,
            what,
            f"`{frame.ident:03X}`",
            f"`{frame.data.hex(' ').upper()}`" if frame.data else "-",
            f"`{p.uart_encode(frame).hex(' ').upper()}`",
        ]
        for sender, what, frame in EXAMPLES
    ]
    return [
        "The protocol of the project's own slave boards. The same frames go over CAN and UART.",
        "`bmsctl dbc` writes it as a DBC file, `bmsctl decode cell_link` reads captures. A slave",
        "to start from: [in C](../../examples/slave/cell_link_slave.c) and",
        "[in Python](../../examples/slave/cell_link_slave.py); the tests run both.",
        "",
        *FRAMES.splitlines(),
        "",
        *table(["function", "from", "payload"], FUNCTIONS),
        *RULES.splitlines(),
        "",
        "## Deadlines",
        "",
        *_deadlines(),
        *f"{BITS}\n{bits}.".splitlines(),
        "",
        *START.splitlines(),
        "",
        "## Example bytes",
        "",
        f"Node {NODE}, seq {SEQ}, in hex.",
        "",
        *table(["from", "frame", "CAN identifier", "CAN data", "UART bytes"], rows),
    ]
