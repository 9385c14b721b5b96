"""Frames of a CAN port that carries more than one thing: which goes to whom.

The owner of the port polls its link with this object as sink. Nothing here allocates once all
listeners are added.
"""

from bms.ticks import MASK


class FrameRouter:
    """Hands frames of some identifiers to listeners, and all others to the port's owner.

    owner: anything with `on_frame`, None = nobody; unexpected: frames that nobody wanted.
    """

    def __init__(self, owner):
        self._owner = owner
        self._of = {}
        self.unexpected = 0

    def add(self, ident, listener):
        """From now on frames with `ident` are the listener's; the one that had it, or None."""
        had = self._of.get(ident)
        self._of[ident] = listener
        return had

    def on_frame(self, ident, n, data, now):
        """A frame from the link."""
        listener = self._of.get(ident)
        if listener is not None:
            listener.on_frame(ident, n, data, now)
        elif self._owner is not None:
            self._owner.on_frame(ident, n, data, now)
        else:
            self.unexpected = (self.unexpected + 1) & MASK
