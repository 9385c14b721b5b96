"""The simulator's time: integer microseconds and a queue of things to come."""

import heapq
from collections.abc import Callable


class Events:
    """`now_us` moves only in `run_until`; events of the same time run in the order of their making.

    `at` returns a handle for `cancel`; a cancelled event never runs. ran: how many have begun.
    """

    def __init__(self) -> None:
        self.now_us = 0
        self.ran = 0
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._made = 0
        self._cancelled: set[int] = set()

    def at(self, t_us: int, action: Callable[[], None]) -> int:
        """Run `action` at `t_us`, or now where that has passed."""
        self._made += 1
        heapq.heappush(self._heap, (max(t_us, self.now_us), self._made, action))
        return self._made

    def after(self, delay_us: int, action: Callable[[], None]) -> int:
        """Run `action` in `delay_us`."""
        return self.at(self.now_us + delay_us, action)

    def every(self, period_us: int, action: Callable[[], None]) -> None:
        """Run `action` each `period_us`, for ever."""

        def again() -> None:
            action()
            self.after(period_us, again)

        self.after(period_us, again)

    def cancel(self, handle: int) -> None:
        """Forget an event that has not run yet."""
        self._cancelled.add(handle)

    def next_us(self) -> int | None:
        """Time of the next event, None where nothing is to come."""
        return self._heap[0][0] if self._heap else None

    def run_next(self, until_us: int) -> bool:
        """Run the next event if it is due by `until_us`; else move the time there. False then."""
        if self._heap and self._heap[0][0] <= until_us:
            t_us, made, action = heapq.heappop(self._heap)
            self.now_us = t_us
            if made in self._cancelled:
                self._cancelled.discard(made)
            else:
                self.ran += 1
                action()
            return True
        self.now_us = max(self.now_us, until_us)
        return False
