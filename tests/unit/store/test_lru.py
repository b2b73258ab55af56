"""The order of eviction: against models of it, under scans, and what ghosts do and never do."""

from __future__ import annotations

import random
from collections import Counter, OrderedDict, deque

import pytest

from cacheserver.store.store import Store
from cacheserver.walk import Walk

MIB = 1 << 20
SIZE = 400  # bytes of value: all in one slab class


def full_store(manner: str, capacity: int = 4 * MIB) -> tuple[Store, list[bytes]]:
    """A store that has just begun to evict, and the keys in it, oldest first. None of them has been read."""
    store = Store(capacity=capacity, manner=manner)
    keys: list[bytes] = []
    while store.snapshot()["evictions"] == 0:
        keys.append(b"fill%06d" % len(keys))
        assert store.put("set", keys[-1], b"v" * SIZE) == "STORED"
    return store, keys[1:]


def warm(store: Store) -> int:
    return sum(int(one["number_warm"]) for one in store.snapshot()["classes"].values())


def walked(store: Store) -> Counter[bytes]:
    walk = Walk(store)
    found: Counter[bytes] = Counter()
    while not walk.done:
        for line in walk.lines("metadump", 1, 0)[0].splitlines():
            found[line.split(b" ", 1)[0].removeprefix(b"key=")] += 1
    return found


def test_plain_lru_evicts_exactly_what_was_used_longest_ago() -> None:
    rng = random.Random(1)
    store, keys = full_store("lru")
    model = OrderedDict.fromkeys(keys)
    everyone = [*keys, *(b"more%06d" % i for i in range(len(keys)))]
    capacity = len(model)
    for step in range(60_000):
        key = everyone[int(len(everyone) * rng.random() ** 2)]
        if step % 17 == 0:
            assert store.delete(key) == (key in model)
            model.pop(key, None)
            continue
        if step % 5 == 0:
            assert store.touch(key, 0) == (key in model)
        elif step % 3 == 0:
            assert store.put("add", key, b"v" * SIZE) == ("NOT_STORED" if key in model else "STORED")
            if key not in model and len(model) == capacity:
                model.popitem(last=False)
            model[key] = None
        elif step % 7 == 0 or store.get(key) is None:
            assert store.put("set", key, b"w" * SIZE) == "STORED"
            if key not in model and len(model) == capacity:
                model.popitem(last=False)
            model[key] = None
        if key in model:
            model.move_to_end(key)
    assert store.snapshot()["evictions"] > 5_000, "hardly anything was evicted: this test shows nothing"
    assert set(walked(store)) == set(model)


class S3Fifo:
    """The model: three queues, as its paper describes it, but with fewer ghosts: those of the index lie where
    its buckets have slots to spare, which is worth as much as a queue of three to eight items, by trial."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.reads: dict[int, int] = {}
        self.small: deque[int] = deque()
        self.main: deque[int] = deque()
        self.ghosts: OrderedDict[int, None] = OrderedDict()

    def request(self, key: int) -> bool:
        if key in self.reads:
            self.reads[key] = min(3, self.reads[key] + 1)
            return True
        while len(self.reads) >= self.capacity:
            self.evict()
        self.reads[key] = 0
        if key in self.ghosts:
            del self.ghosts[key]
            self.main.append(key)
        else:
            self.small.append(key)
        return False

    def evict(self) -> None:
        if len(self.small) * 10 > self.capacity or not self.main:
            key = self.small.popleft()
            if self.reads[key] > 1:
                self.reads[key] = 0
                self.main.append(key)
                return
            self.ghosts[key] = None
            if len(self.ghosts) > self.capacity * 3 // 8:
                self.ghosts.popitem(last=False)
        else:
            key = self.main.popleft()
            if self.reads[key]:
                self.reads[key] -= 1
                self.main.append(key)
                return
        del self.reads[key]


def stream(count: int, keys: int, seed: int) -> list[int]:
    """Requests as of a busy cache: some keys asked for much more than others, drifting, and scans."""
    rng = random.Random(seed)
    requests: list[int] = []
    scan = keys
    while len(requests) < count:
        drift = len(requests) // 20
        requests.extend(drift + int(keys * rng.random() ** 4) for _ in range(1000))
        if rng.random() < 0.2:
            requests.extend(range(10 * count + scan, 10 * count + scan + 400))
            scan += 400
    return requests


def test_s3_fifo_hits_as_often_as_its_model() -> None:
    store, keys = full_store("s3fifo")
    requests = stream(300_000, 8 * len(keys), 2)
    for key in keys:
        store.delete(key)
    model = S3Fifo(len(keys))
    hits = 0
    expected = 0
    for request in requests:
        expected += model.request(request)
        key = b"%010d" % request
        if store.get(key) is None:
            store.put("set", key, b"v" * SIZE)
        else:
            hits += 1
    assert 0.2 < expected / len(requests) < 0.9, "such a stream tells nothing"
    assert abs(hits - expected) < 0.005 * len(requests)


def test_a_scan_leaves_alone_what_was_read_twice() -> None:
    store, keys = full_store("s3fifo")
    working = keys[-len(keys) // 2 :]
    for _ in range(2):
        for key in working:
            assert store.get(key) is not None
    for i in range(10 * len(keys)):
        store.put("set", b"scan%d" % i, b"v" * SIZE)
    kept = sum(store.get(key) is not None for key in working)
    assert kept >= 0.99 * len(working)


def test_a_scan_takes_over_what_nobody_has_read() -> None:
    store, keys = full_store("s3fifo")
    for i in range(10 * len(keys)):
        store.put("set", b"scan%d" % i, b"v" * SIZE)
    assert sum(store.get(key) is not None for key in keys) == 0


def evict_unread(store: Store, prefix: bytes, count: int) -> list[bytes]:
    """Store new keys; returns those that have been evicted meanwhile, oldest first."""
    keys = [prefix + b"%06d" % i for i in range(count)]
    for key in keys:
        store.put("set", key, b"v" * SIZE)
    there = walked(store)
    return [key for key in keys if key not in there]


def test_a_key_that_comes_back_soon_after_its_eviction_has_proved_itself() -> None:
    store, keys = full_store("s3fifo")
    gone = evict_unread(store, b"once", 4 * len(keys))
    assert warm(store) < 50, "new keys were taken for keys that came back"
    for key in gone[-100:]:
        store.put("set", key, b"v" * SIZE)
    again = warm(store)
    assert again >= 80, "ghosts of the latest evictions are missing"
    for key in gone[:100]:
        store.put("set", key, b"v" * SIZE)
    for i in range(1000):
        store.put("set", b"never%d" % i, b"v" * SIZE)
    assert warm(store) < again + 10, "other keys were taken for keys that came back"


def test_plain_lru_keeps_no_ghosts() -> None:
    store, keys = full_store("lru")
    gone = evict_unread(store, b"once", 2 * len(keys))
    store.steer("s3fifo")
    before = warm(store)
    for key in gone[-100:]:
        store.put("set", key, b"v" * SIZE)
    assert warm(store) <= before


def test_ghosts_are_no_items_and_no_walk_meets_them() -> None:
    store, keys = full_store("s3fifo")
    size = store.snapshot()["hash_bytes"]
    evict_unread(store, b"once", 4 * len(keys))
    for i in range(0, 4 * len(keys), 3):
        store.delete(b"once%06d" % i)
    found = walked(store)
    assert set(found.values()) == {1}
    assert store.snapshot()["curr_items"] == len(found)
    assert all(store.get(key) is not None for key in found)
    assert store.snapshot()["hash_bytes"] == size, "ghosts must not take memory"


def test_an_index_that_shrinks_and_grows_over_ghosts_loses_no_item() -> None:
    store, keys = full_store("s3fifo", 8 * MIB)
    gone = evict_unread(store, b"once", 3 * len(keys))
    there = list(walked(store))
    for key in there[: len(there) // 8 * 7]:
        assert store.delete(key)
    for _ in range(50):
        store.maintain(1, 10_000)
    kept = set(there[len(there) // 8 * 7 :])
    assert set(walked(store)) == kept
    for key in gone[-2000:]:
        store.put("set", key, b"v" * SIZE)
    assert set(walked(store)) == kept | set(gone[-2000:])


def test_a_flush_forgets_the_ghosts_too() -> None:
    store, keys = full_store("s3fifo")
    gone = evict_unread(store, b"once", 2 * len(keys))
    store.flush()
    for key in gone[-500:]:
        store.put("set", key, b"v" * SIZE)
    assert store.snapshot()["curr_items"] == 500
    assert warm(store) == 0


def test_a_value_that_outgrows_its_chunk_keeps_its_standing() -> None:
    store, keys = full_store("s3fifo")
    gone = evict_unread(store, b"once", 2 * len(keys))
    before = warm(store)
    proven = gone[-20:]
    for key in proven:
        store.put("set", key, b"v" * SIZE)
    came = warm(store) - before
    assert came > 10
    for key in proven:
        assert store.put("append", key, b"w" * SIZE) == "STORED"
    grown = [one for one in store.snapshot()["classes"].values() if one["chunk_size"] > 2 * SIZE]
    assert sum(one["number_warm"] for one in grown) == came


def test_the_manner_may_change_at_any_moment() -> None:
    rng = random.Random(3)
    store, keys = full_store("s3fifo")
    for step in range(80_000):
        if step % 997 == 0:
            store.steer(rng.choice(["lru", "s3fifo"]))
        key = b"%d" % int(4 * len(keys) * rng.random() ** 2)
        if store.get(key) is None:
            assert store.put("set", key, b"v" * SIZE) == "STORED"
    found = walked(store)
    assert set(found.values()) == {1}
    after = store.snapshot()
    assert after["curr_items"] == len(found) == sum(one["number"] for one in after["classes"].values())
    assert len(found) >= 0.95 * len(keys), "room was left unused"


def test_what_probation_holds_when_it_ends_goes_by_age() -> None:
    store, keys = full_store("s3fifo")
    for key in keys * 2:
        store.get(key)
    evict_unread(store, b"once", 100)
    for i in range(300):
        store.put("set", b"probed%d" % i, b"v" * SIZE, now=5)
    assert warm(store) > 0.9 * len(keys)
    store.steer("lru")
    for i in range(200):
        store.put("set", b"new%d" % i, b"v" * SIZE, now=10)
    assert all(store.get(b"probed%d" % i, 10) is not None for i in range(300))


def test_an_unknown_manner_is_refused() -> None:
    with pytest.raises(ValueError, match="manner"):
        Store(manner="clock")
