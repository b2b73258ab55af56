"""Read-through loads for the benchmarks: which keys are asked for, how large their values are, and a cache to ask.

Knows: popularity, sizes, the store in process, memcached's protocol as far as `get` and `set`. Must not know: what is measured.
"""

from __future__ import annotations

import itertools
import math
import random
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from cacheserver.store.store import Store

MIB = 1 << 20
BATCH = 64  # keys that are asked for before the values of those that were not there are stored
VALUE = b"v" * (1 << 20)


class Cache(Protocol):
    """What a read-through client needs of a cache."""

    def fetch(self, keys: Sequence[bytes]) -> set[bytes]:
        """Return those of the keys that are there."""

    def fill(self, keys: Sequence[bytes], size: Callable[[bytes], int]) -> int:
        """Store values; return how many were refused."""


class InProcess:
    """A store of a fixed capacity in this process, its clock driven by the operations."""

    def __init__(self, capacity: int, *, shards: int = 1, rate: int = 10_000) -> None:
        """`capacity` in bytes; `rate`: operations in a second of the store's clock."""
        self.store = Store(capacity=capacity, shards=shards)
        self._rate = rate
        self._operations = 0

    def _now(self, more: int) -> int:
        before = self._operations // self._rate
        self._operations += more
        now = 1 + self._operations // self._rate
        if now > before + 1:
            self.store.maintain(now)
        return now

    def fetch(self, keys: Sequence[bytes]) -> set[bytes]:
        """See Cache."""
        now = self._now(len(keys))
        return {key for key in keys if self.store.touches(key, now)} if hasattr(self.store, "touches") else {
            key for key in keys if self.store.get(key, now) is not None
        }

    def fill(self, keys: Sequence[bytes], size: Callable[[bytes], int]) -> int:
        """See Cache."""
        now = self._now(len(keys))
        return sum(self.store.put("set", key, VALUE[: size(key)], now=now) != "STORED" for key in keys)


class OverSocket:
    """A server that speaks memcached's protocol."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        """Connect to `host`:`port`."""
        self._socket = socket.create_connection((host, port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb", buffering=1 << 18)

    def fetch(self, keys: Sequence[bytes]) -> set[bytes]:
        """See Cache."""
        self._socket.sendall(b"get " + b" ".join(keys) + b"\r\n")
        found = set()
        while True:
            line = self._file.readline()
            if line == b"END\r\n":
                return found
            word, key, _, size = line.split()
            assert word == b"VALUE", line
            self._file.read(int(size) + 2)
            found.add(key)

    def fill(self, keys: Sequence[bytes], size: Callable[[bytes], int]) -> int:
        """See Cache."""
        refused = 0
        for key in keys:
            n = size(key)
            self._socket.sendall(b"set %b 0 0 %d\r\n%b\r\n" % (key, n, VALUE[:n]))
        for _ in keys:
            refused += self._file.readline() != b"STORED\r\n"
        return refused

    def close(self) -> None:
        """Hang up."""
        self._file.close()
        self._socket.close()


def zipf(keys: int, skew: float, seed: int) -> Iterator[int]:
    """Key numbers below `keys` without end; the n-th most popular is asked for in proportion to n ** -skew."""
    rng = random.Random(seed)
    names = list(range(keys))
    rng.shuffle(names)
    weights = list(itertools.accumulate((n + 1) ** -skew for n in range(keys)))
    while True:
        yield from rng.choices(names, cum_weights=weights, k=65536)


def log_uniform(low: int, high: int) -> Callable[[bytes], int]:
    """Sizes fixed for each key, every factor between `low` and `high` bytes equally frequent."""
    span = math.log(high / low)

    def size(key: bytes) -> int:
        return int(low * math.exp(span * random.Random(key).random()))

    return functools_cache(size)


def functools_cache(function: Callable[[bytes], int]) -> Callable[[bytes], int]:
    """Remember what `function` said for each key."""
    known: dict[bytes, int] = {}

    def cached(key: bytes) -> int:
        n = known.get(key)
        if n is None:
            n = known[key] = function(key)
        return n

    return cached


def read_through(
    cache: Cache, numbers: Iterator[int], size: Callable[[bytes], int], requests: int, name: bytes = b"key:%d"
) -> tuple[int, int]:
    """Ask for `requests` keys and store what was not there; return hits and refused writes."""
    hits = refused = 0
    for _ in range(requests // BATCH):
        keys = [name % number for number in itertools.islice(numbers, BATCH)]
        found = cache.fetch(keys)
        hits += sum(key in found for key in keys)
        missing = [key for key in dict.fromkeys(keys) if key not in found]
        if missing:
            refused += cache.fill(missing, size)
    return hits, refused
