"""The freeze frame as the store takes it: every byte of every sample, in any pieces."""

import struct

from bms.protection.freeze_frame import FreezeFrame
from fakes import Parts


def _frame():
    p = Parts(slaves=2, cells=5, temps=3)
    f = FreezeFrame(p.pack, p.currents, p.strings, p.faults, p.clock)
    p.ready()
    for k in range(3 * f.count + 5):
        p.mv = [3300 + k + i for i in range(10)]
        p.dc = [-100 - k - i for i in range(6)]
        p.scan(100)
        f.step(p.now)
    return f


def test_a_frame_as_bytes():
    f = _frame()
    form = "<10h6h5i"
    assert f.bytes == 8 + struct.calcsize(form) * f.count
    assert struct.calcsize(form) == 52
    whole = bytearray(f.bytes)
    f.fill(whole, 0, f.bytes)
    assert struct.unpack("<4h", bytes(whole[:8])) == (10, 6, 1, f.count)
    first = 0
    for k in range(f.count):
        sample = struct.unpack(form, bytes(whole[8 + 52 * k : 60 + 52 * k]))
        first = first or sample[0]
        assert sample[:10] == tuple(range(first + k, first + k + 10))
        assert sample[10:16] == tuple([-100 - (first + k - 3300) - i for i in range(6)])
        assert sample[16] * 1000 + sample[17] > 0
    for step in (1, 7, 52, 53, 992):
        got = bytearray()
        buf = bytearray(step)
        for start in range(0, f.bytes, step):
            n = min(step, f.bytes - start)
            f.fill(buf, start, n)
            got.extend(buf[:n])
        assert got == whole, step
