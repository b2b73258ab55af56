"""What all connections together may hold, as parts of the memory there is.

Knows: the kinds of what connections hold, the budgets that reactors keep. Must not know: connections.
Threads: a Buffers belongs to the main thread; its budgets are anybody's.
"""

from cacheserver.net.budget import Budget
from cacheserver.net.transport import trim_heap

MIB = 1 << 20
BUFFER_SHARE = 16  # connections may hold this part of the limit of each kind: input, output, pinned output
INPUT_MAX, OUTPUT_MAX, PINNED_MAX, BUFFER_MIN = 256 * MIB, 64 * MIB, 256 * MIB, 2 * MIB
SECURE_SHARE, SECURE_MAX = 8, 512 * MIB  # the same for what OpenSSL holds: 18 KiB for each connection at rest
SECURE_STEP = 4 * MIB  # OpenSSL's bytes that make trimming the heap worth its time when they have gone


class Buffers:
    """What all connections together may hold, by kind; each budget follows the limit, which changes at run
    time. `max_item`: bytes of the largest item.
    """

    def __init__(self, limit: int, max_item: int) -> None:
        self._max_item = max_item
        self.received = Budget(share(limit, INPUT_MAX))
        self.unsent = Budget(share(limit, OUTPUT_MAX))
        self.pinned = Budget(self._pinned_share(limit))
        self.secure = Budget(share(limit, SECURE_MAX, SECURE_SHARE))
        self._secure_peak = 0

    def follow(self, limit: int) -> None:
        """Set the budgets to what a bound of `limit` bytes allows."""
        self.received.limit = share(limit, INPUT_MAX)
        self.unsent.limit = share(limit, OUTPUT_MAX)
        self.pinned.limit = self._pinned_share(limit)
        self.secure.limit = share(limit, SECURE_MAX, SECURE_SHARE)

    def tidy(self) -> None:
        """Give the host what many TLS connections that are gone have left in the heap."""
        now = self.secure.used
        if self._secure_peak - now >= SECURE_STEP:
            trim_heap()
            self._secure_peak = now
        self._secure_peak = max(self._secure_peak, now)

    def _pinned_share(self, limit: int) -> int:
        # A few of the largest items on their way out must fit, or nobody could read them.
        return max(share(limit, PINNED_MAX), min(4 * self._max_item, limit // 4))


def share(limit: int, most: int, part: int = BUFFER_SHARE) -> int:
    """Return the bytes, `most` at most, all connections may hold of one kind under a bound of `limit`."""
    return max(BUFFER_MIN, min(most, limit // part))
