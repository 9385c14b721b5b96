"""Words to a chain of Tesla Model S modules, and what they answered."""

from typing import Any

from bms.kernels_plain import crc8
from bms.slaves import tesla_s

from .base import Capture, Decoded, Shape, Stream, driver_of, fill, first

# registers with a name
NAMES = {
    0x00: "status",
    0x01: "sample",
    0x20: "alerts",
    0x21: "faults",
    0x30: "ADC control",
    0x31: "IO control",
    0x32: "bleed",
    0x33: "bleed timer",
    0x34: "convert",
    0x3B: "address",
    0x3C: "reset",
}


def _parts(data: bytes) -> tuple[list[str], dict[int, dict[int, bytes]], int]:
    """(words, data of answers by address and register, bytes that are neither)."""
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
        if len(rest) >= 5 and not rest[0] & 1 and 1 <= rest[2] <= tesla_s.SAMPLE_BYTES:
            size = rest[2] + 4
            plain = bytes([rest[0] & 0x7F]) + rest[1 : size - 1]
            if len(rest) >= size and crc8(plain, 0, size - 1) == rest[size - 1]:
                address = 0 if rest[0] & 0x80 else rest[0] >> 1
                answers.setdefault(address, {})[rest[1]] = rest[3 : size - 1]
                at += size
                continue
        if len(rest) >= 3 and not rest[0] & 1 and rest[1] in (0, 1, 0x20) and 1 <= rest[2] <= 18:
            words.append(f"read of {rest[0] >> 1}: {NAMES[rest[1]]} {rest[2]} bytes")
            at += 3
            continue
        stray += 1
        at += 1
    return words, answers, stray


def decode(capture: Capture) -> Decoded:
    """What was said on the line of a chain."""
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
    values["words"] = words
    count = sum(len(x) for x in answers.values())
    out.frames = {"good": count, "damaged": stray, "words": len(words)}
    out.error = first(
        (bool(stray) and bool(count or words), f"{stray} bytes are part of no word and no answer"),
        (not count and not words, "neither a word nor an answer in it"),
    )
    return out


def find(port: Any) -> list[Shape]:
    """Reset and address a chain as the driver does, then sample each module."""

    def word(address: int, register: int, value: int) -> bytes:
        head = bytes([address << 1 | 1, register, value])
        return head + bytes([crc8(head, 0, 3)])

    for _ in range(2):
        port.ask(word(tesla_s.ALL, 0x3C, 0xA5), 20)
    out = []
    for node in range(1, 63):
        if not _parts(port.ask(bytes(2) + b"\1", 20))[1].get(0):
            break
        port.ask(word(0, 0x3B, 0x80 | node), 20)
        for register, value in ((0x30, 0x3D), (0x31, 0x03), (0x34, 0x01)):
            port.ask(word(node, register, value), 20)
        heard = port.ask(bytes([node << 1, tesla_s.SAMPLE, tesla_s.SAMPLE_BYTES]), 30)
        decoded = decode(Capture(heard))
        if not decoded.values["boards"]:
            break
        temps = decoded.values["temps_dc"]
        reading = next((i for i, dc in enumerate(temps) if dc is None), len(temps))
        out.append(Shape(node, len(decoded.values["cells_mv"]), reading))
    return out
