from collections.abc import Collection, Iterator

from cacheserver.store.store import Store

class Walk:
    """One walk over the live items of a store, a portion at each call; see store/crawl.pxd for what it meets.

    classes: numbers of slab classes to look at, from 1 to Store.class_count (else ValueError); empty = all.
    batch: items looked at under a shard's lock at a time, from 1 to 64.

    A call works for 50 us at a stretch, then rests twice as long, and at least `rest_us` microseconds; it
    ends when there is enough to send, at the walk's end, or after about 10 ms. It holds a shard's lock for
    about 10 us at a time. One thread at a time; use only one of lines(), measure() and expire() on a Walk.
    `now`: the store's clock in seconds; what has expired by then is skipped. `wall`: the Unix time at which
    that clock showed 0.
    """

    def __init__(self, store: Store, classes: Collection[int] = (), *, batch: int = 64) -> None: ...
    @property
    def done(self) -> bool:
        """Whether the walk is at its end."""

    @property
    def checked(self) -> int:
        """Items looked at so far, expired ones included."""

    def lines(self, form: str, now: int, wall: int, rest_us: int = 0, most: int = 0) -> tuple[bytes, int]:
        """The next items, each as a line, and how many; 128 KiB at most, perhaps none.

        form: "metadump" (key URI-encoded, LF), "mgdump" (a command that reads the item, CRLF), "cachedump".
        most: end the walk after that many; 0 = no bound.
        """

    def measure(self, now: int, rest_us: int = 0) -> None:
        """Count the next items by their size."""

    def sizes(self) -> Iterator[tuple[int, int]]:
        """(bytes, items), by what measure() has counted; sizes are rounded up, to 32 bytes up to 1 MiB and to
        1 MiB above."""

    def expire(self, now: int, most: int = 0, rest_us: int = 0) -> int:
        """Remove what has expired of the next items; returns how many. most: look at so many of each slab
        class in the whole walk; 0 = at all."""
