from cacheserver.store.store import Store

class Receiving:
    """Room in a store for a value that arrives in pieces: write(), then commit() or abandon(), once.

    nbytes: of the whole value. Times are seconds of the store's clock, exptime 0 = never. Raises MemoryError
    with TOO_LARGE or NO_MEMORY where there is no room. One that is collected is abandoned.
    One thread at a time.
    """

    def __init__(
        self, store: Store, key: bytes, nbytes: int, flags: int = 0, exptime: int = 0, now: int = 1
    ) -> None: ...
    @property
    def revoked(self) -> bool:
        """Whether a hard shrink wants the memory back: commit() would fail, abandon() gives it."""

    @property
    def missing(self) -> int:
        """Bytes of value still to be written; 0 after the end."""

    def write(self, data: bytes, now: int = 1) -> None:
        """Add to the value; ValueError if that is more than is missing."""

    def commit(self, mode: str = "set", cas: int = 0, now: int = 1) -> str:
        """Store the value; modes and outcomes are those of Store.put(). ValueError if it is not complete."""

    def abandon(self) -> None:
        """Give the room back; nothing is stored."""

class Pinned:
    """The value of a key (else KeyError), whose bytes stay where they are and as they are until release().

    Counts as a read at `now`. MemoryError if the item has 8191 pins. One that is collected is released.
    One thread at a time.
    """

    def __init__(self, store: Store, key: bytes, now: int = 1) -> None: ...
    @property
    def value(self) -> bytes:
        """A copy of the bytes; ValueError after release()."""

    @property
    def address(self) -> int:
        """Where in memory the value begins."""

    def release(self) -> None: ...
