"""Identifiers of CAN frames: in all of the firmware one int, of 11 bits or of 29 and a flag."""

from micropython import const

EXTENDED = const(0x20000000)  # the flag; with it an identifier stays below 2**30, a small int
BITS = const(0x1FFFFFFF)  # what the bus carries of an identifier
