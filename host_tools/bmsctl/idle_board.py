"""A board's HAL for the firmware's code where no time passes and nothing is wired."""


class IdleHal:
    """A clock that stands still, contactor outputs for some strings that lead nowhere."""

    STRINGS = 1

    def ms(self) -> int:
        return 0

    us = ms

    def coil(self, which: int, pm: int) -> None: ...

    def feedback(self, which: int) -> None: ...
