from collections.abc import Sequence

from cacheserver.engine import Engine
from cacheserver.store.store import Store

FETCHERS: int  # lookups by key
MUTATIONS: int  # storage commands
DELETIONS: int  # items that a command deleted
CONNEVENTS: int  # clients that come and go
EVICTIONS: int  # items dropped to make room

class Queue:
    """Lines that wait to be read; any thread, but one reader."""

    @property
    def pending(self) -> int:
        """Bytes that wait."""

    def take(self, most: int) -> bytes:
        """The next bytes, at most `most`; b"" if nothing waits."""

class WatchLog:
    """The journals of `engines` and of `store`, told as lines; every method from any thread.

    ring_bytes: of each journal, from 1024 on; memory is taken for it only while a queue wants what it holds.
    """

    def __init__(self, engines: Sequence[Engine], store: Store, *, ring_bytes: int = 65536) -> None: ...
    def add(self, kinds: int, nbytes: int) -> Queue:
        """A new queue of at most `nbytes` (1024 or more) for what happens from now on; `kinds`: a sum of the
        constants above. Raises MemoryError, also for the 33rd queue."""

    def remove(self, queue: Queue) -> None:
        """End a queue; harmless to repeat."""

    def drain(self) -> int:
        """Move what the journals hold to the queues; returns how many records there were."""

    def counters(self) -> dict[str, int]:
        """memcached's log_* counts."""
