"""The current of a string: its last sample, its age, and whether it charges.

Written by the master once a step from the board's sensor; nothing here allocates.
"""

from bms import ticks


class StringCurrent:
    """ma: mA, + = charge; charging: above the idle current; installed: the pack file has
    a current sensor; valid: there was a sample, not too old.

    string: 0-based; error_ma: largest error of its sensors near zero current.
    """

    def __init__(self, config, string):
        self.string = string
        self.installed = bool(config.current_sensor)
        self._idle = config.current_idle_ma
        self.ma = self.error_ma = 0
        self.valid = False
        self.charging = False
        self._at = 0

    def sample(self, ma, now):
        """Take a new sample, None = the sensor gave none; True where there was one."""
        if ma is None:
            return False
        self.ma = ma
        self.valid = True
        self.charging = ma > self._idle
        self._at = now
        return True

    def age(self, now):
        """ms since the last sample; very old where there never was one."""
        if not self.valid:
            return 0xFFFFFFF
        age = ticks.diff(now, self._at)
        if age > 60000:
            self.valid = False
        return age
