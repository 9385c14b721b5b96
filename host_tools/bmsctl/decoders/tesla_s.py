"""Commands to a chain of Tesla Model S modules, and their answers."""

from collections.abc import Iterator
from typing import Any

from bms.kernels.slave_checksums import crc8
from bms.slaves import tesla_s

from .base import Capture, Decoded, Found, Shape, Stream, driver_of, fill, first, found_in

_STATES = ("alerts", "faults", "high_cells", "low_cells")
# of the alerts and of the faults, from bit 0 on, as TI's bq76PL536A has them, whose registers these
# modules show
BITS = (
    ("hot_1", "hot_2", "sleep", "chip_hot", "forced", "ecc", "parity", "address_lost"),
    ("cell_high", "cell_low", "crc", "reset", "forced", "internal", "bit_6", "bit_7"),
)
# of a read from register 0: its status, and the sample from register 1 on
_BOTH_BYTES = 1 + tesla_s.SAMPLE_BYTES
_TRIES = 3  # of a question, before a module counts as absent

# registers with a name
NAMES = {
    0x00: "status",
    0x01: "sample",
    0x20: "alerts",
    0x21: "faults",
    0x30: "ADC control",
    0x31: "IO control",
    0x32: "balance",
    0x33: "balance timer",
    0x34: "convert",
    0x3B: "address",
    0x3C: "reset",
}


def _state(data: bytes) -> dict[str, list[Any]]:
    """Alerts, faults, and cells from 1 on that the module finds too high and too low."""
    names = [[name for i, name in enumerate(x) if data[k] >> i & 1] for k, x in enumerate(BITS)]
    cells = [[i + 1 for i in range(6) if data[k] >> i & 1] for k in (2, 3)]
    return dict(zip(_STATES, names + cells, strict=True))


def _parts(data: bytes) -> tuple[list[str], dict[int, dict[int, bytes]], int]:
    """(commands, data of answers by address and register, bytes that are neither)."""
    words: list[str] = []
    answers: dict[int, dict[int, bytes]] = {}
    stray = at = 0
    while at < len(data):
        rest = data[at:]
        if len(rest) >= 4 and rest[0] & 1:
            plain = bytes([rest[0] & 0x7F]) + rest[1:3]
            if crc8(plain, 0, 3) == rest[3] or crc8(rest, 0, 3) == rest[3]:
                name = NAMES.get(rest[1], f"{rest[1]:02X}")
                address = rest[0] >> 1
                to = "all" if address == tesla_s.ALL else f"{address & 0x3F}"
                words.append(f"write to {to}: {name} {rest[2]:02X}")
                at += 4
                continue
        if len(rest) >= 5 and not rest[0] & 1 and 1 <= rest[2] <= _BOTH_BYTES:
            size = rest[2] + 4
            plain = bytes([rest[0] & 0x7F]) + rest[1 : size - 1]
            if len(rest) >= size and crc8(plain, 0, size - 1) == rest[size - 1]:
                address = 0 if rest[0] & 0x80 else rest[0] >> 1
                read = answers.setdefault(address, {})
                read[rest[1]] = rest[3 : size - 1]
                if rest[1] == 0 and rest[2] == _BOTH_BYTES:
                    read[tesla_s.SAMPLE] = rest[4 : size - 1]
                at += size
                continue
        if (
            len(rest) >= 3
            and not rest[0] & 1
            and rest[1] in (0, 1, 0x20)
            and 1 <= rest[2] <= _BOTH_BYTES
        ):
            words.append(f"read of {rest[0] >> 1}: {NAMES[rest[1]]} {rest[2]} bytes")
            at += 3
            continue
        stray += 1
        at += 1
    return words, answers, stray


def decode(capture: Capture) -> Decoded:
    """Commands and answers on the line of a chain."""
    out = Decoded("tesla_s")
    words, answers, stray = _parts(capture.data)
    boards = []
    for node in sorted(answers):
        sample = answers[node].get(tesla_s.SAMPLE, b"")
        if 1 <= node <= 62 and len(sample) == tesla_s.SAMPLE_BYTES:
            raw = [int.from_bytes(sample[2 + 2 * i : 4 + 2 * i], "big") for i in range(6)]
            cells = next((i for i, word in enumerate(raw) if word < 1000), 6)
            boards.append(Shape(node, max(cells, 1), 2))
    values = out.values
    if boards:
        link: Any = tesla_s.TeslaLink(Stream())
        driver, pack = driver_of("tesla_s", link, boards)
        driver.listen()
        for m, board in enumerate(boards):
            for register, take in (
                (tesla_s.SAMPLE, driver.take_sample),
                (tesla_s.STATUS, driver.take_status),
            ):
                data = answers[board.node].get(register)
                if data is not None:
                    link.data[: len(data)] = data
                    take(m, 0, 0)
        fill(out, boards, pack)
        for row in out.each:
            state = answers[row["node"]].get(tesla_s.STATUS, b"")
            row.update(_state(state) if len(state) == tesla_s.STATUS_BYTES else {})
        if len(boards) == 1:
            values.update((key, out.each[0].get(key)) for key in _STATES)
    values["words"] = words
    count = sum(len(x) for x in answers.values())
    out.frames = {"good": count, "damaged": stray, "words": len(words)}
    out.error = first(
        (bool(stray) and bool(count or words), f"{stray} bytes are part of no word and no answer"),
        (not count and not words, "neither a word nor an answer in it"),
    )
    return out


def find(port: Any) -> Iterator[Found]:
    """Reset and address a chain as the driver does, then sample each module."""

    def word(address: int, register: int, value: int) -> None:
        head = bytes([address << 1 | 1, register, value])
        port.exchange(head + bytes([crc8(head, 0, 3)]), 20)

    def read(address: int, register: int, n: int) -> bytes:
        for _ in range(_TRIES):
            answer = port.exchange(bytes([address << 1, register, n]), 30)
            if register in _parts(answer)[1].get(address, {}):
                return answer
        return b""

    count = 0
    for _ in range(_TRIES):
        for _ in range(_TRIES):
            word(tesla_s.ALL, 0x3C, 0xA5)
        count, sure = 0, True
        while sure and count < 62 and read(0, 0, 1):
            count += 1
            word(0, 0x3B, 0x80 | count)
            sure = bool(read(count, 0, 1))  # if not, the places are not certain: start again
        if sure:
            break
    for node in range(1, count + 1):
        found: list[Found] = []
        for _ in range(_TRIES):
            for register, value in ((0x30, 0x3D), (0x31, 0x03), (0x34, 0x01)):
                word(node, register, value)
            found = found_in(decode(Capture(read(node, tesla_s.SAMPLE, tesla_s.SAMPLE_BYTES))))
            if found:
                break
        yield from found or [Found(Shape(node, 0, 0))]
