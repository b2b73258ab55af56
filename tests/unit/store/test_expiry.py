"""Expiry without a reader: what is due goes within a second of the clock, and nothing else does."""

from __future__ import annotations

import os
import random
import threading
from pathlib import Path

import pytest

from cacheserver.store.store import Store

MIB = 1 << 20
DAY = 86400
NOW = 1000  # of the store's clock


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def settle(store: Store, now: int) -> None:
    """The upkeep of one second, with all the time it needs."""
    for _ in range(100):
        store.maintain(now, 100_000)


def items(store: Store) -> int:
    return int(store.snapshot()["curr_items"])


@pytest.mark.parametrize("size", [0, 100, 3000, 60_000, 400_000])
def test_each_second_takes_exactly_what_is_due(size: int) -> None:
    store = Store(shards=2)
    for n in range(240):
        ttl = n % 12
        store.put("set", b"k%d" % n, b"v" * size, exptime=NOW + ttl if ttl else 0, now=NOW)
    for second in range(1, 12):
        settle(store, NOW + second)
        assert items(store) == 20 + 20 * (11 - second)
    assert store.get(b"k12", NOW + 12) is not None, "it has no time"


@pytest.mark.resident
def test_pages_come_back_without_a_reader() -> None:
    store = Store()
    before = resident()
    for n in range(200_000):
        store.put("set", b"%020d" % n, b"v" * 100, exptime=NOW + 1 + n % 3, now=NOW)
    grown = resident() - before
    assert grown > 25 * MIB
    for second in range(1, 4):
        settle(store, NOW + second)
    assert items(store) == 0
    assert resident() - before < grown / 4
    assert store.snapshot()["crawler_reclaimed"] == 200_000
    assert store.snapshot()["expired_unfetched"] == 200_000


def test_a_chunk_is_free_again_at_once() -> None:
    """In a store that may not grow, further items take the room of those that have expired."""
    store = Store(capacity=8 * MIB)
    for n in range(20_000):
        store.put("set", b"a%d" % n, b"v" * 100, exptime=NOW + 1, now=NOW)
        store.put("set", b"keep%d" % n, b"v" * 100, now=NOW)
    settle(store, NOW + 1)
    evicted = store.snapshot()["evictions"]
    for n in range(19_000):
        assert store.put("set", b"b%d" % n, b"v" * 100, now=NOW + 1) == "STORED"
    assert store.snapshot()["evictions"] == evicted


def test_a_write_takes_the_room_of_the_expired_before_that_of_the_living() -> None:
    store = Store(capacity=8 * MIB)
    n = 0
    while store.snapshot()["evictions"] == 0:
        for _ in range(256):
            store.put("set", b"k%d" % n, b"v" * 100, exptime=NOW + 1, now=NOW)
            n += 1
    held, evicted = items(store), store.snapshot()["evictions"]
    for i in range(held // 2):
        store.put("set", b"new%d" % i, b"v" * 100, now=NOW + 1)
    assert store.snapshot()["evictions"] == evicted
    assert all(store.get(b"new%d" % i, NOW + 1) for i in range(held // 2))


def test_a_touched_item_lives_to_its_new_time() -> None:
    store = Store()
    for n in range(1000):
        store.put("set", b"k%d" % n, b"v", exptime=NOW + 10, now=NOW)
    for n in range(0, 1000, 4):
        assert store.touch(b"k%d" % n, NOW + 30, NOW + 5)
    for n in range(1, 1000, 4):
        assert store.touch(b"k%d" % n, NOW + 7, NOW + 5)
    for n in range(2, 1000, 4):
        assert store.touch(b"k%d" % n, 0, NOW + 5)
    for now, left in ((6, 1000), (7, 750), (9, 750), (10, 500), (29, 500), (30, 250), (DAY, 250)):
        settle(store, NOW + now)
        assert items(store) == left


def test_a_new_value_keeps_nothing_of_the_old_ones_time() -> None:
    store = Store()
    store.put("set", b"k", b"v" * 10, exptime=NOW + 2, now=NOW)
    store.put("set", b"k", b"w" * 10, now=NOW)
    store.put("set", b"l", b"v" * 10, now=NOW)
    store.put("set", b"l", b"w" * 10, exptime=NOW + 2, now=NOW)
    settle(store, NOW + 2)
    assert store.get(b"k", NOW) is not None
    assert items(store) == 1


@pytest.mark.parametrize("ttl", [65_000, 66_000, 3 * DAY, 30 * DAY])
@pytest.mark.parametrize("step", [1000, 40_000, 10 * DAY])
def test_times_beyond_the_reach_of_a_deadline(ttl: int, step: int) -> None:
    store = Store()
    store.put("set", b"far", b"v", exptime=NOW + ttl, now=NOW)
    store.put("set", b"other", b"v", now=NOW)
    now = NOW
    while now + step < NOW + ttl:
        now += step
        store.put("set", b"near", b"v", exptime=now + 1, now=now)
        settle(store, now)
        assert items(store) == 3
        settle(store, now + 1)
        assert items(store) == 2
    settle(store, NOW + ttl - 1)
    assert items(store) == 2
    settle(store, NOW + ttl)
    assert items(store) == 1


def test_what_a_reader_holds_goes_when_it_lets_go_and_what_moved_keeps_its_time() -> None:
    store = Store()
    for n in range(30_000):
        store.put("set", b"%020d" % n, b"v" * 100, exptime=NOW + 100 + n % 5, now=NOW)
    for n in range(0, 30_000, 3):
        store.delete(b"%020d" % n, NOW)
    store.shrink(1 * MIB, False)
    while store.pay(1000):
        pass
    assert store.snapshot()["slab_reassign_rescues"] > 1000
    held = items(store)
    settle(store, NOW + 99)
    assert items(store) == held
    settle(store, NOW + 104)
    assert items(store) == 0


def test_a_round_ends_within_its_time_and_goes_on_where_it_was() -> None:
    store = Store()
    for n in range(100_000):
        store.put("set", b"%020d" % n, b"v" * 100, exptime=NOW + 1, now=NOW)
    left = [items(store)]
    while left[-1]:
        store.maintain(NOW + 1, 1000)
        left.append(items(store))
    assert len(left) > 3, "it took several slices"
    assert left == sorted(left, reverse=True)


def test_an_item_without_a_time_costs_nothing() -> None:
    store = Store()
    for n in range(50_000):
        store.put("set", b"%020d" % n, b"v" * 100, now=NOW)
    assert store.snapshot()["bytes_side"] == 0
    for n in range(50_000):
        store.touch(b"%020d" % n, NOW + 50, NOW)
    assert 0 < store.snapshot()["bytes_side"] <= 2.5 * 50_000
    settle(store, NOW + 50)
    store.shrink(MIB << 10, True)
    assert store.snapshot()["bytes_side"] == 0


@pytest.mark.parametrize("seed", range(8))
def test_like_a_dict_with_times(seed: int) -> None:
    """Random writes, touches, deletes and leaps of the clock: after each just the right items are there."""
    rng = random.Random(seed)
    store = Store(shards=rng.choice([1, 4]))
    model: dict[bytes, int] = {}
    now = NOW
    sizes = [0, 100, 700, 20_000]
    for _ in range(60):
        for _ in range(rng.randrange(400)):
            key = b"k%d" % rng.randrange(600)
            ttl = rng.choice([0, 1, 2, 5, 60, 3600, 70_000, 40 * DAY])
            exptime = now + ttl if ttl else 0
            match rng.randrange(6):
                case 0 | 1 | 2:
                    store.put("set", key, b"v" * rng.choice(sizes), exptime=exptime, now=now)
                    model[key] = exptime
                case 3 | 4:
                    assert store.touch(key, exptime, now) == (key in model)
                    if key in model:
                        model[key] = exptime
                case _:
                    assert store.delete(key, now) == (model.pop(key, None) is not None)
        now += rng.choice([1, 1, 1, 2, 4, 60, 5000, 70_000, 20 * DAY])
        settle(store, now)
        model = {key: exptime for key, exptime in model.items() if exptime == 0 or exptime > now}
        assert items(store) == len(model)
    assert all(store.get(key, now) is not None for key in model)


def test_writers_of_all_shards_and_the_upkeep_at_once() -> None:
    """Pages that expiry empties change hands between shards; what is read is what was written."""
    store = Store(shards=4, capacity=12 * MIB)
    clock = [NOW]
    errors: list[str] = []

    def value_of(key: bytes) -> bytes:
        return key * (3 + key[-1] % 60)

    def write(seed: int) -> None:
        rng = random.Random(seed)
        for n in range(40_000):
            key, now = b"%d-%d" % (seed, rng.randrange(9000)), clock[0]
            if n % 3:
                store.put("set", key, value_of(key), exptime=rng.choice([0, now + 1, now + 2]), now=now)
            elif (found := store.get(key, now)) and found[0] != value_of(key):
                errors.append(f"{key!r} has another's value")

    writers = [threading.Thread(target=write, args=(seed,)) for seed in range(3)]
    for writer in writers:
        writer.start()
    turns = 0
    while any(writer.is_alive() for writer in writers):
        store.maintain(clock[0], 1000)
        turns += 1
        clock[0] += turns % 20 == 0
    for writer in writers:
        writer.join()
    assert not errors
    settle(store, clock[0] + 2)
    snap = store.snapshot()
    assert snap["crawler_reclaimed"] > 1000
    assert sum(c["mem_requested"] for c in snap["classes"].values()) == snap["bytes"]
    assert sum(c["used_chunks"] for c in snap["classes"].values()) == snap["curr_items"]
    assert sum(c["number"] for c in snap["classes"].values()) == snap["curr_items"]
