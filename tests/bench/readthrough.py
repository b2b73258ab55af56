"""Read-through loads for the benchmarks: which keys are asked for, how large values are, and a cache to ask.

Knows: popularity, sizes, the store's face, load tests' codec. Must not know: what is measured.
"""

from __future__ import annotations

import functools
import itertools
import math
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from cacheserver.store.store import Store
from loadtest.wire import Wire

MIB = 1 << 20
BATCH = 64  # keys that are asked for before the values of those that were not there are stored
VALUE = memoryview(b"v" * MIB)
RATE = 10_000  # requests a second of the clock of a store in process

Size = Callable[[bytes], int]


class Cache(Protocol):
    """What a read-through client needs of a cache."""

    def fetch(self, keys: Sequence[bytes]) -> list[bool]:
        """Ask for keys; return which are there."""
        ...

    def fill(self, keys: Sequence[bytes], size: Size) -> int:
        """Store values; return how many were refused."""
        ...


class InProcess:
    """A store of a fixed capacity in this process, its clock driven by the requests."""

    def __init__(self, capacity: int) -> None:
        """Open a store of `capacity` bytes."""
        self.store = Store(capacity=capacity)
        self._requests = 0
        self._now = 1

    def fetch(self, keys: Sequence[bytes]) -> list[bool]:
        """See Cache."""
        self._requests += len(keys)
        now = 1 + self._requests // RATE
        if now > self._now:
            self._now = now
            self.store.maintain(now)
        return [self.store.get(key, now) is not None for key in keys]

    def fill(self, keys: Sequence[bytes], size: Size) -> int:
        """See Cache."""
        put = self.store.put
        return sum(put("set", key, bytes(VALUE[: size(key)]), now=self._now) != "STORED" for key in keys)


class OverSocket:
    """A server that speaks memcached's protocol."""

    def __init__(self, address: str) -> None:
        """Connect to `address`, host:port."""
        self._wire = Wire(address)
        self._meta = self._wire.speaks_meta()

    def fetch(self, keys: Sequence[bytes]) -> list[bool]:
        """See Cache."""
        return self._wire.present(keys, self._meta)

    def fill(self, keys: Sequence[bytes], size: Size) -> int:
        """See Cache."""
        return len(keys) - self._wire.store([(key, VALUE[: size(key)]) for key in keys], (), self._meta)[0]


def zipf(keys: int, skew: float, seed: int) -> Iterator[int]:
    """Key numbers below `keys` without end; the n-th most popular in proportion to n ** -skew."""
    rng = random.Random(seed)
    names = list(range(keys))
    rng.shuffle(names)
    weights = list(itertools.accumulate((n + 1) ** -skew for n in range(keys)))
    while True:
        yield from rng.choices(names, cum_weights=weights, k=65536)


def log_uniform(low: int, high: int) -> Size:
    """Sizes fixed for each key, every factor between `low` and `high` bytes equally frequent."""
    span = math.log(high / low)

    @functools.cache
    def size(key: bytes) -> int:
        return int(low * math.exp(span * random.Random(key).random()))

    return size


def read_through(
    cache: Cache, numbers: Iterator[int], size: Size, requests: int, prefix: bytes = b"key:"
) -> tuple[float, int]:
    """Ask for `requests` keys and store what was not there; return the hit ratio and the writes refused."""
    hits = refused = 0
    batches = max(1, requests // BATCH)
    for _ in range(batches):
        keys = [prefix + b"%d" % number for number in itertools.islice(numbers, BATCH)]
        found = cache.fetch(keys)
        hits += sum(found)
        missing = dict.fromkeys(key for key, there in zip(keys, found, strict=True) if not there)
        if missing:
            refused += cache.fill(list(missing), size)
    return hits / (batches * BATCH), refused
