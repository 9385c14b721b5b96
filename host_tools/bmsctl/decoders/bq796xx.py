"""Commands to a stack of BQ79616, and the answers of its devices."""

import time
from typing import Any

from bms.kernels.slave_checksums import crc16_modbus
from bms.slaves import bq796xx

from .base import (
    Capture,
    Decoded,
    Found,
    Shape,
    Stream,
    driver_of,
    fill,
    first,
    found_in,
    link_of,
    why_damaged,
)

WORDS = {
    0x80: "read of one",
    0x90: "write to one",
    0xA0: "read of the stack",
    0xB0: "write to the stack",
    0xC0: "read of all",
    0xD0: "write to all",
}


def words(data: bytes) -> tuple[list[str], bytes]:
    """(the master's commands as text, the bytes that belong to none)."""
    out = []
    rest = b""
    at = 0
    while at < len(data):
        kind = data[at] & 0xF0
        if kind in WORDS:
            head = 4 if kind < 0xA0 else 3
            reads = kind in (0x80, 0xA0, 0xC0)
            size = head + (1 if reads else (data[at] & 7) + 1) + 2
            word = data[at : at + size]
            if len(word) == size:
                crc = crc16_modbus(word, 0, size - 2)
                if word[-2:] == crc.to_bytes(2, "little"):
                    body = word[head:-2]
                    content = f"{body[0] + 1} bytes" if reads else body.hex()
                    device = f" {word[1]}" if head == 4 else ""
                    register = word[head - 2 : head].hex()
                    out.append(f"{WORDS[kind]}{device}: {register} {content}")
                    at += size
                    continue
        rest += data[at : at + 1]
        at += 1
    return out, rest


class _Sink:
    """Passes answers on to `driver`, and records which devices there are."""

    def __init__(self, driver: Any = None) -> None:
        self.driver = driver
        self.link: Any = None
        self.cells: dict[int, int] = {}
        self.temps: dict[int, int] = {}

    def on_answer(self, device: int, register: int, at: int, n: int, now: int) -> None:
        data = bytes(self.link.data[at : at + n])
        if register == bq796xx.VCELL16 and n == 32:
            raw = [int.from_bytes(data[2 * i : 2 * i + 2], "big") for i in reversed(range(16))]
            self.cells[device] = next((i for i, word in enumerate(raw) if word < 2000), 16)
        elif register == bq796xx.TSREF and n == 18:
            raw = [int.from_bytes(data[2 + 2 * i : 4 + 2 * i], "big") for i in range(8)]
            self.temps[device] = next((i for i, w in enumerate(raw) if not 500 < w < 32000), 8)
        if self.driver is not None:
            self.driver.on_answer(device, register, at, n, now)


def _pass(data: bytes, boards: list[Shape] | None) -> tuple[_Sink, Any]:
    link, stream = link_of("bq796xx", Capture(data))
    link.loose = True
    sink = _Sink()
    sink.link = link
    if boards is not None:
        sink.driver, _pack = driver_of("bq796xx", link, boards)
        sink.driver.listen()
    while stream.data:
        link.poll(sink, 0)
    link.end(sink, 0)
    return sink, link


def decode(capture: Capture) -> Decoded:
    """Commands and answers on the line of a stack."""
    out = Decoded("bq796xx")
    texts, rest = words(capture.data)
    seen, link = _pass(rest, None)
    boards = [
        Shape(n, max(seen.cells[n], 1), seen.temps.get(n, 0))
        for n in sorted(seen.cells)
        if 1 <= n <= 62
    ]
    values = out.values
    if boards:
        sink, link = _pass(rest, boards)
        fill(out, boards, sink.driver.pack)
    values["words"] = texts
    damaged = link.damaged
    out.frames = {"good": link.rx, "damaged": damaged, "words": len(texts)}
    out.error = first(
        (damaged, why_damaged(link)),
        (bool(rest) and not link.rx, "neither a word nor an answer in it"),
        (not texts and not link.rx, "nothing in it"),
    )
    return out


def find(port: Any) -> list[Found]:
    """Wake and address a stack as the driver does, for the most devices; those that answer."""
    most = 62
    driver, _pack = driver_of("bq796xx", bq796xx.BqLink(_Line(port)), [Shape(most, 16, 0)])
    now = 0
    while driver.starts < 2 and driver._phase != bq796xx.RUN:
        driver.step(now)
        wait = max(driver.rest(now), 1)
        time.sleep(wait / 1000)
        now += wait
    link = bq796xx.BqLink(Stream())

    def read(register: int, n: int) -> bytes:
        link._stream.sent = b""
        link.read(register, n)
        return port.exchange(link._stream.sent, 60)

    link.out[8] = 0x06
    link._stream.sent = b""
    link.write(0xB0, -1, 0x030D, 1)
    port.exchange(link._stream.sent, 5)
    received = b"".join(read(*x) for x in 2 * ((bq796xx.VCELL16, 32), (bq796xx.TSREF, 18)))
    return found_in(decode(Capture(received)))


class _Line:
    """The port as the stream of a link."""

    def __init__(self, port: Any) -> None:
        self._port = port
        self._received = b""

    def read(self, buf: bytearray) -> int:
        self._received += self._port.take()
        part, self._received = self._received[: len(buf)], self._received[len(buf) :]
        buf[: len(part)] = part
        return len(part)

    def write(self, buf: bytearray, start: int, n: int) -> int:
        self._port.say(bytes(buf[start : start + n]))
        return n

    def low(self) -> None:
        self._port.low()

    def usual(self) -> None:
        """A break ends by itself."""
