"""What waits for a slow disk or screen, within a bound, so that nothing else has to wait for it."""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

LOOK_S = 0.2  # how often who waits looks whether it should end
GATHER_S = 0.03


class Backlog:
    """Items, `most` bytes of them in all. One thread puts, one takes.

    paused: how often there was no room.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._items: deque[tuple[float, Any]] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self.paused = 0

    def put(self, item: Any, size: int, wait: threading.Event | None = None) -> bool:
        """Add an item; False where there is no room. With `wait`: wait for room until it is set."""
        at = time.monotonic()
        with self._changed:
            if self._bytes and self._bytes + size > self._most:
                self.paused += 1
                while wait is not None and self._bytes and not wait.is_set():
                    self._changed.wait(LOOK_S)
                if wait is None:
                    return False
            self._bytes += size
            if not self._items:
                self._changed.notify()
            self._items.append((at, item))
        return True

    def take(self, timeout_s: float) -> "deque[tuple[float, Any]]":
        """All items, the oldest first, with their arrival on the monotonic clock in s.

        Waits for the first one, and a moment for others: writing many at once is cheaper. None
        where none came in time.
        """
        with self._changed:
            if not self._items:
                self._changed.wait(timeout_s)
        if timeout_s and self._bytes < self._most // 2:
            time.sleep(GATHER_S)
        with self._changed:
            items, self._items = self._items, deque()
            self._bytes = 0
            self._changed.notify()
        return items


class Background(threading.Thread):
    """Calls `work(item, at)` in a thread of its own; who gives items never waits for it.

    idle is called between the items, and each LOOK_S where none come. dropped: items there was no
    room for; failed: the exception that ended the work, after which items are thrown away.
    """

    def __init__(
        self, work: Callable[[Any, float], None], idle: Callable[[], None], most: int
    ) -> None:
        super().__init__(daemon=True)
        self._work = work
        self._idle = idle
        self._backlog = Backlog(most)
        self._ending = threading.Event()
        self.dropped = 0
        self.failed: Exception | None = None
        self.start()

    def give(self, item: Any, size: int) -> None:
        """Hand over an item of `size` bytes."""
        if self.failed is None and not self._backlog.put(item, size):
            self.dropped += 1

    def run(self) -> None:
        try:
            while True:
                ending = self._ending.is_set()
                for at, item in self._backlog.take(0 if ending else LOOK_S):
                    self._work(item, at)
                if ending:
                    return
                self._idle()
        except Exception as error:  # whatever it is, it must not end who gives the items
            self.failed = error

    def end(self, timeout_s: float) -> bool:
        """No more items come: True once all are worked off or the work has failed, in time."""
        self._ending.set()
        self.join(timeout_s)
        return not self.is_alive()
