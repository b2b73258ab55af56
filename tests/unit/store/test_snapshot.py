"""The store's own account of its memory: the parts add up, to what the kernel says."""

from __future__ import annotations

import gc
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cacheserver.store.store import Store

MIB = 1 << 20
NOW = 1000  # of the store's clock
SIZES = [30, 100, 100, 100, 900, 5000, 40_000, 200_000]
LARGE = [500, 300_000, 1 << 20, 3_000_001]
AGES = ("age_hot", "age_warm", "age")
# Made beforehand: large ones that come and go would leave their traces in the interpreter's heap.
VALUES = {size: b"v" * size for size in [1, *SIZES, *LARGE]}


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def settle(store: Store, now: int) -> None:
    for _ in range(200):
        store.maintain(now, 100_000)


def fill(store: Store, nbytes: int, sizes: list[int], ttl: Callable[[int], int] = lambda _n: 0) -> int:
    n = 0
    while sum(store.ledger()) < nbytes and store.snapshot()["evictions"] == 0:
        for _ in range(32):
            life = ttl(n)
            value, exptime = VALUES[sizes[n % len(sizes)]], NOW + life if life else 0
            store.put("set", b"key-%d" % n, value, exptime=exptime, now=NOW)
            n += 1
    return n


def full() -> Store:
    store = Store(capacity=64 * MIB)
    n = fill(store, 200 * MIB, SIZES)
    for i in range(n):
        store.put("set", b"more-%d" % i, VALUES[SIZES[i % len(SIZES)]], now=NOW)
    assert store.snapshot()["evictions"] > 100
    return store


def half_deleted() -> Store:
    store = Store(shards=4)
    n = fill(store, 128 * MIB, SIZES)
    for i in random.Random(1).sample(range(n), n // 2):
        assert store.delete(b"key-%d" % i, NOW)
    return store


def with_runs() -> Store:
    store = Store(shards=2, max_item=8 * MIB)
    n = fill(store, 64 * MIB, LARGE)
    for i in range(0, n, 5):
        store.delete(b"key-%d" % i, NOW)
    return store


def with_times() -> Store:
    store = Store(shards=2)
    fill(store, 64 * MIB, [30, 100, 5000], lambda n: n % 4)
    assert store.snapshot()["bytes_side"] > 0.001 * store.snapshot()["bytes_committed"]
    return store


def after_expiry() -> Store:
    store = with_times()
    settle(store, NOW + 2)
    return store


def after_a_hard_shrink() -> Store:
    store = with_times()
    assert store.shrink(20 * MIB, True) >= 20 * MIB
    return store


def after_a_soft_shrink() -> Store:
    store = half_deleted()
    store.shrink(15 * MIB, False)
    while store.pay():
        pass
    return store


def after_a_flush() -> Store:
    """The pages are in the pool yet."""
    store = with_times()
    store.flush()
    return store


def small_items() -> Store:
    """The index has more than a quarter of it."""
    store = Store()
    fill(store, 64 * MIB, [1])
    return store


STATES = [
    full,
    half_deleted,
    with_runs,
    with_times,
    after_expiry,
    after_a_hard_shrink,
    after_a_soft_shrink,
    after_a_flush,
    small_items,
]


def parts(numbers: dict[str, Any]) -> int:
    return sum(numbers[f"bytes_{name}"] for name in ("live", "loose", "free", "meta"))


@pytest.mark.resident
@pytest.mark.parametrize("state", STATES)
def test_it_adds_up_to_what_the_kernel_says(state: Callable[[], Store]) -> None:
    gc.collect()
    before = resident()
    store = state()
    gc.collect()
    held = resident() - before
    snap = store.snapshot()
    assert held > 15 * MIB
    assert abs(snap["bytes_committed"] - snap["bytes_untouched"] - held) <= 0.02 * held
    assert snap["bytes_committed"] == parts(snap)
    assert snap["bytes_committed"] == snap["committed"] + snap["bytes_table"]
    assert snap["bytes_untouched"] == snap["untouched"]
    for numbers in snap["classes"].values():
        assert numbers["bytes_committed"] == parts(numbers)
        assert min(value for name, value in numbers.items() if name.startswith("bytes_")) >= 0
        assert numbers["number"] == sum(numbers[f"number_{name}"] for name in ("hot", "warm", "cold"))
        chunks = sum(numbers[name] for name in ("used_chunks", "free_chunks", "free_chunks_end"))
        assert chunks == numbers["total_chunks"]
    assert snap["bytes_live"] == snap["bytes"]
    assert snap["bytes_live"] + snap["bytes_free"] > 0.5 * snap["bytes_committed"]


def test_ages_are_seconds_since_the_last_use() -> None:
    store = Store()
    for n in range(1000):
        store.put("set", b"%d" % n, b"v", now=NOW + n // 10)
    store.maintain(NOW + 200)
    (numbers,) = store.snapshot()["classes"].values()
    assert max(numbers[age] for age in AGES) == 200
    for n in range(1000):
        assert store.get(b"%d" % n, NOW + 250)
    store.maintain(NOW + 300)
    (numbers,) = store.snapshot()["classes"].values()
    assert max(numbers[age] for age in AGES) == 50
