"""The index's memory: it is asked for, counted, and bounded by the items there are."""

from __future__ import annotations

import random
from itertools import pairwise

from cacheserver.store.store import Store

MIB = 1 << 20


def fill(store: Store, first: int, count: int) -> None:
    for n in range(first, first + count):
        assert store.put("set", b"%d" % n, b"v") == "STORED"


def hash_bytes(store: Store) -> int:
    return int(store.snapshot()["hash_bytes"])


def test_items_that_come_and_go_do_not_make_it_grow() -> None:
    store = Store()
    fill(store, 0, 50_000)
    rng = random.Random(1)
    keys = list(range(50_000))
    sizes = []
    for n in range(50_000, 650_000):
        at = rng.randrange(len(keys))
        assert store.delete(b"%d" % keys[at])
        keys[at] = n
        assert store.put("set", b"%d" % n, b"v") == "STORED"
        if n % 100_000 == 0:
            sizes.append(hash_bytes(store))
    assert sizes[-1] <= 1.15 * sizes[0]


def test_it_grows_with_leave_and_stays_dense_without() -> None:
    store = Store()
    store.grant(64 * MIB)
    fill(store, 0, 100_000)
    free = hash_bytes(store)
    assert 5 * 100_000 < free < 12 * 100_000
    tight = Store()
    tight.grant(64 * MIB)
    fill(tight, 0, 20_000)
    small = hash_bytes(tight)
    tight.grant(0)
    for n in range(20_000, 60_000):
        tight.put("set", b"%d" % n, b"v")
    assert hash_bytes(tight) < small + (free - small) / 2, "without leave it lets its chains grow"
    assert tight.snapshot()["evictions"] > 10_000


def test_it_gives_back_what_it_does_not_need_in_slices() -> None:
    """Every call of the upkeep gives a bounded piece back, and in the end the index has its smallest size."""
    store = Store(shards=4)
    fill(store, 0, 400_000)
    sizes = [hash_bytes(store)]
    assert sizes[0] > 3 * MIB
    store.flush()
    for _ in range(200):
        store.maintain(2, 1)  # one piece for its microsecond
        sizes.append(hash_bytes(store))
    assert sizes == sorted(sizes, reverse=True)
    assert max(a - b for a, b in pairwise(sizes)) <= MIB
    assert sizes[-1] <= 4 * 320 * 1024, "less than 256 KiB a shard are not worth a call"
