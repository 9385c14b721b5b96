"""Identifiers of CAN frames: in all of the firmware one int, of 11 bits or of 29 and a flag.

BITS: what the bus carries of an identifier. EXTENDED: the flag of 29 bits; with it an identifier
stays below 2**30, a small int.
"""

from micropython import const

EXTENDED = const(0x20000000)
BITS = const(0x1FFFFFFF)
