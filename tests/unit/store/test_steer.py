"""A store evicts by what it has learnt: beside plain LRU, over streams that suit one or the other."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice

import pytest

from cacheserver.store.learn import Lessons
from cacheserver.store.store import Store
from tests.unit.store.test_learn import loop, moving

MIB = 1 << 20
SIZE = 4000  # bytes of value: some 250 items a page


def hits(store: Store, stream: Iterator[int], count: int) -> float:
    """The hit ratio of a read-through client."""
    found = 0
    for i, key in enumerate(islice(stream, count)):
        if store.get(b"%d" % key) is not None:
            found += 1
        else:
            assert store.put("set", b"%d" % key, b"v" * SIZE) == "STORED"
        if i % 1_000 == 0:
            store.maintain(1)
    return found / count


@pytest.mark.parametrize("shards", [1, 4])
def test_a_loop_larger_than_the_cache_hits_what_fits(shards: int) -> None:
    capacity = 8 * MIB
    assert hits(Store(capacity=capacity, shards=shards, manner="lru"), loop(4_000), 40_000) == 0
    store = Store(capacity=capacity, shards=shards)
    hits(store, loop(4_000), 100_000)
    fits = store.snapshot()["curr_items"] / 4_000
    assert hits(store, loop(4_000), 40_000) > 0.9 * fits > 0.3


def test_where_only_recency_tells_it_is_as_good_as_plain_lru() -> None:
    ratio = {}
    for manner in ("lru", "s3fifo", None):
        store = Store(capacity=4 * MIB, manner=manner)
        stream = moving(random.Random(1))
        hits(store, stream, 50_000)
        ratio[manner] = hits(store, stream, 50_000)
    assert ratio[None] > ratio["lru"] - 0.005
    assert ratio["lru"] > ratio["s3fifo"] + 0.05, "a stream for which it matters"


def held(store: Store) -> int:
    """Bytes counted as resident, but for the index: how full its buckets are depends on the hash key."""
    return int(store.ledger()[0] - store.snapshot()["hash_bytes"])


def test_what_learning_takes_is_counted_once_something_is_evicted() -> None:
    taken = {}
    for manner in ("lru", None):
        store = Store(capacity=4 * MIB, manner=manner)
        hits(store, loop(500), 500)
        before = held(store)
        assert store.snapshot()["evictions"] == 0
        hits(store, loop(2_000), 2_000)
        assert store.snapshot()["evictions"] > 0
        taken[manner] = held(store) - before
    assert taken[None] - taken["lru"] == Lessons(1).nbytes
