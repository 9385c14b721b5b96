"""Places of the totals that survive a power cut, in an array('i') of BYTES // 4 ints.

`storage.nvm_store` keeps the array; who counts writes its own places. Integer constants: `bmsctl
flash` puts them where they are used.
"""

# places in `totals`; every value stays below 2**30
SEQ, BOOT, EVENTS = 1, 2, 3  # counters over all starts: writes, starts, changes of faults
SECONDS, CLOSED_S = 4, 5  # s of operation, s of it with a contactor closed
# three places each: whole units, thousandths, remainder (see `add`); in Wh, Ah, full cycles
ENERGY_IN, ENERGY_OUT, CHARGE_IN, CHARGE_OUT, CYCLES = 6, 9, 12, 15, 18
DEEP = 21  # one bit per string: 1 = it was discharged too deeply
CONFIG_CRC = 22  # of the pack file at the last start
CRASHES, CRASH_N, CRASH_BOOT, CRASH_S = 23, 24, 25, 26  # count; of the last: length, boot, uptime
# one place per string, 8 strings: closings, openings under load, state of charge in permille + 1
# (0 = not known), offset of the current sensor in mA, drift of the state of charge in permille
CLOSINGS, LOADED, SOC, OFFSET, DRIFT = 32, 40, 48, 56, 64
RING, KEPT, EVENT = 80, 48, 4  # events: first place, number of events, ints per event
CRASH = RING + KEPT * EVENT  # text
CRASH_BYTES = 96
TAIL = CRASH + CRASH_BYTES // 4  # sequence number once more, CRC-16
BYTES = (TAIL + 2) * 4
