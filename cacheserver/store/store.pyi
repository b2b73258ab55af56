from typing import Any

class Store:
    """Items by key in memory that can be given back to the host. Every method may be called from any thread.

    shards: locks; a power of two from 1 to 64.
    capacity: bytes the store may hold, for tests and benchmarks only; 0 = as much as it is granted.
    max_item: bytes of header, key, flags and value that one item may have.
    evictions: False = refuse writes instead of evicting (memcached's -M).
    cas: False = every item's cas unique is 0 (memcached's -C).
    manner: see steer(), for tests and benchmarks only; None: as the store finds best.
    Raises MemoryError when the system refuses address space.

    Times are seconds of a clock of the caller's choice that starts above 1; exptime 0 = never.
    """

    ceiling: int  # bytes it may grow to, as far as known (0 = not): bounds half-received values
    wake_fd: int  # an eventfd written when growth was refused or soon will be; -1 = none

    def __init__(
        self,
        *,
        shards: int = 1,
        capacity: int = 0,
        max_item: int = 1048576,
        evictions: bool = True,
        cas: bool = True,
        manner: str | None = None,
    ) -> None: ...
    @property
    def space(self) -> int:
        """Bytes of pages that its address space has room for, whatever it is granted: 256 GiB, less under
        `ulimit -v` or `ulimit -d`.
        """

    @property
    def class_count(self) -> int:
        """Slab classes, numbered from 1; the last is that of items with pages of their own."""

    def reassign(self, source: int, target: int) -> str:
        """Move a page from slab class `source` (0: the empty pages; -1: any class) to `target` (0: likewise).

        Takes a few milliseconds; items of the page move to others of their class, or make room there.
        Returns OK, BUSY, BADCLASS, NOSPARE (no shard has two pages of the source) or SAME.
        """

    def grant(self, nbytes: int) -> None:
        """Allow the store to grow by `nbytes` from now on; replaces what is left of the last grant.

        Before the first grant growth is not bounded. A grant above 0 cancels soft debt.
        """

    def shrink(self, target: int, hard: bool) -> int:
        """Give `target` bytes back to the host; returns the bytes given back by now.

        hard: all of it, before returning, at any cost to the cache. Soft: what costs nothing at once, the
        rest is noted as debt (the largest ask counts, asks are not summed) for pay().
        """

    def pay(self, budget_us: int = 1000) -> int:
        """Pay soft debt for about `budget_us` microseconds; returns the bytes still owed."""

    def maintain(self, now: int, budget_us: int = 1000) -> bool:
        """Free what has expired, idle holes and surplus empty pages. One thread at a time.

        budget_us: microseconds after which it returns, about.
        True: there is more to do, so come back sooner than usual.
        """

    def ledger(self) -> tuple[int, int]:
        """(bytes resident, index included; bytes granted that the host has not charged yet)."""

    def freeable(self) -> int:
        """Bytes that shrinking could give back."""

    def take_revoked(self) -> bool:
        """True once after a hard shrink has revoked reservations: their holders should look."""

    def steer(self, manner: str) -> None:
        """Let eviction choose by `manner` from now on: "lru" or "s3fifo". For tests and benchmarks only.

        Raises ValueError for another name.
        """

    def flush(self) -> None:
        """Forget every item."""

    def snapshot(self) -> dict[str, Any]:
        """Counters and gauges under memcached's names, "classes" by slab class (numbered from 1).

        In total and in each class: bytes_committed = bytes_live + bytes_loose + bytes_free + bytes_meta, of
        which bytes_untouched is not resident; snapshot.pxd tells what each is. "committed" and "untouched"
        are the ledger.
        """

    def audit(self) -> list[str]:
        """Count everything again; a sentence for each thing that does not add up, none if the store is sound.

        For tests and debugging: all work on the store waits meanwhile, about 0.1 s for a million items.
        Exact while no other thread works on the store; else what is on its way may be reported, too.
        """

    def resident(self) -> int:
        """Bytes of pages and indexes in memory, by the kernel's word; ledger() says what it should be."""

    @property
    def poisons(self) -> bool:
        """Whether AddressSanitizer is compiled in, and watches what is free."""

    def get(self, key: bytes, now: int = 1) -> tuple[bytes, int, int] | None:
        """(value, flags, cas) or None."""

    def put(
        self,
        mode: str,
        key: bytes,
        value: bytes,
        flags: int = 0,
        exptime: int = 0,
        cas: int = 0,
        now: int = 1,
        tolerant: bool = False,
        number: int | None = None,
    ) -> str:
        """`mode`: set add replace append prepend cas.

        tolerant: in mode cas a number below the item's stores the value, too, but as a stale one.
        number: the cas of the new item; None: one that no other has.

        Returns STORED, NOT_STORED, EXISTS, NOT_FOUND, TOO_LARGE or NO_MEMORY.
        """

    def delete(self, key: bytes, now: int = 1) -> bool: ...
    def remove(
        self,
        key: bytes,
        now: int = 1,
        *,
        stale: bool = False,
        emptied: bool = False,
        cas: int | None = None,
        number: int | None = None,
    ) -> str:
        """Remove an item; with `stale` or `emptied` it stays, marked, or without value and flags.

        cas: the one the item must have; None: any. number: of what stays; None: one that no other has.

        Returns STORED, EXISTS (another cas), NOT_FOUND or NO_MEMORY.
        """

    def invalidate(self, key: bytes, now: int = 1) -> bool:
        """Mark an item as stale; nobody has won it."""

    def claim(self, key: bytes, winning: bool = False, now: int = 1) -> tuple[bool, bool, bool] | None:
        """(stale, won by another before, won now) or None; `winning`: to be won though it is not stale."""

    def touch(self, key: bytes, exptime: int, now: int = 1) -> bool: ...
    def arith(self, key: bytes, incr: bool, delta: int, now: int = 1) -> int | str:
        """The new number, or NOT_FOUND, NOT_A_NUMBER, NO_MEMORY."""
