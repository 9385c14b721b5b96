"""A CAN frame as a line of slcan (Lawicel CAN232), the protocol of USB adapters."""

from .protocol import EXTENDED, Frame


def to_line(frame: Frame) -> bytes:
    """`tIIILDD..`, or `TIIIIIIIILDD..` of a frame with 29 bits; its end is not in it."""
    ident, digits = frame.ident, "t%03X"
    if ident & EXTENDED:
        ident, digits = ident ^ EXTENDED, "T%08X"
    return f"{digits % ident}{len(frame.data)}{frame.data.hex().upper()}".encode()


def from_line(line: bytes) -> Frame | None:
    """The frame of a line without its end; None where it is no data frame."""
    if line[:1] not in (b"t", b"T"):
        return None
    at = 4 if line[:1] == b"t" else 9
    ident = int(line[1:at], 16) | (EXTENDED if at == 9 else 0)
    n = int(line[at : at + 1])
    return Frame(ident, bytes.fromhex(line[at + 1 : at + 1 + 2 * n].decode()))
