"""The USB console of the stm32 port; see `console`."""

from pyb import USB_VCP


class VcpConsole:
    """The USB console of the stm32 port, which takes what it has room for (`pyb.USB_VCP`)."""

    def __init__(self):
        self._port = USB_VCP()
        self._port.init(flow=USB_VCP.CTS)  # without it what is not read is overwritten

    def read(self, buf):
        """Bytes put into `buf`, at most as many as it holds."""
        if not self._port.any():
            return 0
        return self._port.readinto(buf) or 0

    def write(self, buf, start, n):
        """Bytes taken of buf[start:start + n]."""
        return self._port.write(buf, start, n) or 0  # pyright: ignore
