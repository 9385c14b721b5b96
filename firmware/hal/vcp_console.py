"""The USB console of the stm32 port; see `console`."""

from pyb import USB_VCP


class VcpConsole:
    """The USB console of the stm32 port, whose write takes what fits (`pyb.USB_VCP`)."""

    def __init__(self):
        self._port = USB_VCP()
        self._port.init(flow=USB_VCP.CTS)  # without it unread bytes are overwritten

    def read(self, buf):
        """Read into `buf`, at most its length; returns the count."""
        if not self._port.any():
            return 0
        return self._port.readinto(buf) or 0

    def write(self, buf, start, n):
        """Write from buf[start:start + n]; returns the number of bytes taken."""
        return self._port.write(buf, start, n) or 0  # pyright: ignore
