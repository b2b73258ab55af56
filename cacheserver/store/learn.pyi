from collections.abc import Iterable

class Lessons:
    """A learner without a store, for tests. Not thread-safe. Hashes are 64-bit numbers that look random.

    items: how many the cache holds that is to be learnt for. Raises MemoryError.
    """

    def __init__(self, items: int) -> None: ...
    def resize(self, items: int) -> None:
        """The cache holds so many items now."""

    def read(self, hashes: Iterable[int], found: bool = True) -> None:
        """These keys were read, and found in the cache or not."""

    def store(self, hash: int) -> None: ...
    def delete(self, hash: int) -> None: ...
    @property
    def choice(self) -> int:
        """Which candidate is best."""

    @property
    def shares(self) -> list[int]:
        """The candidates' shares of probation in percent; 0: plain LRU."""

    @property
    def scores(self) -> tuple[list[float], float]:
        """(decayed hits of each candidate's trial, decayed reads)."""

    @property
    def known(self) -> int:
        """Keys in use, of the 4096 there are."""

    @property
    def sampling(self) -> tuple[int, int]:
        """(rate: one key in 2**rate is sampled; items that a trial holds)."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory it takes."""
