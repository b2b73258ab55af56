class Prefixes:
    """Counts by the part of a key before `delimiter` (one ASCII character); any thread.

    len(): prefixes held.
    """

    dropped: int  # operations that were not counted because the table is full, since the start

    def __init__(self, delimiter: str = ":") -> None:
        """Raises ValueError for anything but one single character."""

    def __len__(self) -> int: ...
    def count(self, key: bytes, what: str, hit: bool = False) -> None:
        """Count one operation, for tests and embedding programs: `what` is get, set or del. A key without a
        delimiter is not counted."""

    def rows(self, start: int, most: int) -> list[tuple[bytes, int, int, int, int]]:
        """(prefix, gets, hits, sets, deletes) of at most `most` prefixes (1 to 65536) from number `start` on;
        fewer, or none, at the end."""

    def clear(self) -> None:
        """Forget all counts and give the memory back."""
