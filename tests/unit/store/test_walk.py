"""Walks over the store: what stays is met exactly once, whatever index, pages and other threads do."""

from __future__ import annotations

import random
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from urllib.parse import quote

import pytest

from cacheserver.store.store import Store
from cacheserver.walk import Walk

MIB = 1 << 20
NOW = 1000  # on the store's clock, seconds
WALL = 1_800_000_000  # Unix time when that clock showed 0


def portions(walk: Walk, form: str = "metadump", now: int = NOW) -> Iterator[bytes]:
    while not walk.done:
        yield walk.lines(form, now, WALL)[0]


def keys_in(text: bytes) -> list[bytes]:
    """The keys of a metadump of keys that need no encoding."""
    return [line.split(b" ", 1)[0].removeprefix(b"key=") for line in text.split(b"\n")[:-1]]


def fill(store: Store, prefix: bytes, count: int, size: int = 40) -> list[bytes]:
    keys = [prefix + b"%d" % i for i in range(count)]
    for key in keys:
        assert store.put("set", key, b"v" * size, now=NOW) == "STORED"
    return keys


class Churn:
    """Things that may happen to a store between two steps of a walk."""

    def __init__(self, store: Store, seed: int) -> None:
        self.store = store
        self.rng = random.Random(seed)
        self.others: list[bytes] = []
        self.round = 0
        self.sizes: list[int] = []

    def grow(self) -> None:
        self.round += 1
        self.others += fill(self.store, b"churn%d-" % self.round, 12_000, 200)

    def thin(self) -> None:
        """Make holes, let the index shrink, and have items moved into the holes."""
        self.rng.shuffle(self.others)
        for key in self.others[len(self.others) // 8 :]:
            self.store.delete(key, NOW)
        del self.others[len(self.others) // 8 :]
        for _ in range(30):
            self.store.maintain(NOW, 100_000)
        self.store.shrink(MIB, False)
        while self.store.pay(100_000):
            pass

    def step(self) -> None:
        # Thinning what is thin already would take the memory from those that shall stay.
        thick = len(self.others) > 12_000
        self.rng.choice([self.grow, self.grow, self.thin] if thick else [self.grow])()
        self.sizes.append(self.store.snapshot()["hash_power_level"])


@pytest.mark.parametrize("batch", [64, 3])
@pytest.mark.parametrize("seed", range(3))
def test_what_stays_is_met_exactly_once_while_everything_else_changes(seed: int, batch: int) -> None:
    store = Store(shards=2)
    stable = fill(store, b"stable", 8000, 200)
    for key in stable * 2:
        store.get(key, NOW)  # an item in use is moved where others are evicted
    churn = Churn(store, seed)
    met: Counter[bytes] = Counter()
    for text in portions(Walk(store, batch=batch)):
        met.update(keys_in(text))
        churn.step()
    stayed = [key for key in stable if store.get(key, NOW) is not None]
    assert len(stayed) > 2000
    assert churn.sizes != sorted(churn.sizes), "the index must have grown and shrunk"
    assert store.snapshot()["slab_reassign_rescues"] > 0, "items must have been moved"
    assert [(key, met[key]) for key in stayed if met[key] != 1] == []


def test_a_key_that_is_written_again_and_again_is_met_once() -> None:
    store = Store()
    keys = fill(store, b"k", 5000)
    met: Counter[bytes] = Counter()
    for text in portions(Walk(store)):
        met.update(keys_in(text))
        for number, key in enumerate(keys):
            store.put("set", key, b"v" * (number % 700), now=NOW)  # into chunks of another class
    assert met == Counter(keys)


def test_evictions_by_another_thread_disturb_nothing() -> None:
    store = Store(shards=2, capacity=12 * MIB)
    first = fill(store, b"first", 30_000)
    fill(store, b"rest", 75_000)
    for key in first * 2:
        store.get(key, NOW)

    def write(begin: int) -> None:
        for number in range(begin, begin + 1000):
            store.put("set", b"late%d" % number, b"v" * 40, now=NOW)
            if number % 3 == 0:
                store.delete(b"late%d" % (number // 2), NOW)

    met: Counter[bytes] = Counter()
    writer: threading.Thread | None = None
    for turn, text in enumerate(portions(Walk(store))):
        if writer is not None:
            writer.join()
        writer = threading.Thread(target=write, args=(1000 * turn,))
        writer.start()
        met.update(keys_in(text))
    assert writer is not None
    writer.join()
    stayed = [key for key in first if store.get(key, NOW) is not None]
    assert store.snapshot()["evictions"] > 1000
    assert len(stayed) > 10_000
    assert [(key, met[key]) for key in stayed if met[key] != 1] == []


def test_a_metadump_line_tells_everything() -> None:
    store = Store()
    store.put("set", b"plain", b"12345", flags=7, now=NOW)
    store.put("set", b"read", b"", exptime=NOW + 60, now=NOW)
    store.get(b"read", NOW + 5)
    lines = sorted(b"".join(portions(Walk(store), "metadump")).split(b"\n")[:-1])
    form = rb"key=(\w+) exp=(-?\d+) la=(\d+) cas=(\d+) fetch=(yes|no) cls=(\d+) size=(\d+) flags=(\d+)"
    first, second = (re.fullmatch(form, line) for line in lines)
    assert first is not None
    assert second is not None
    plain, read = store.get(b"plain", NOW), store.get(b"read", NOW)
    assert plain is not None
    assert read is not None
    assert first.groups()[:5] == (b"plain", b"-1", b"%d" % (WALL + NOW), b"%d" % plain[2], b"no")
    assert first[8] == b"7"
    assert int(first[7]) - int(second[7]) == len(b"plain12345") - len(b"read") + 4, "flags take four bytes"
    assert second.groups()[:5] == (
        b"read",
        b"%d" % (WALL + NOW + 60),
        b"%d" % (WALL + NOW + 5),
        b"%d" % read[2],
        b"yes",
    )
    assert first[6] in (b"%d" % number for number in store.snapshot()["classes"])


EVERY_BYTE = [bytes([byte]) * 3 + b"x" for byte in range(256)]


@pytest.mark.parametrize(
    ("form", "shown"),
    [
        ("metadump", lambda key: b"key=" + quote(key, safe="").encode()),
        ("cachedump", lambda key: b"ITEM " + re.sub(rb"[\0-\x20\x7f]", lambda m: b"%%%02X" % m[0][0], key)),
    ],
)
def test_keys_of_every_byte_stay_on_their_line(form: str, shown: Callable[[bytes], bytes]) -> None:
    store = Store()
    for key in EVERY_BYTE:
        store.put("set", key, b"", now=NOW)
    lines = b"".join(portions(Walk(store), form)).split(b"\n")[:-1]
    assert sorted(re.split(rb" \[0 b; | exp=-1", line)[0] for line in lines) == sorted(map(shown, EVERY_BYTE))


def test_a_key_that_cannot_stand_in_a_line_is_read_by_its_base64_form() -> None:
    store = Store()
    for key in (b"a b", b"\r\n", b"\x00", b"abcd\x7f", b"\x80\xff", b"%41", b"k" * 250):
        store.put("set", key, b"", now=NOW)
    lines = b"".join(portions(Walk(store), "mgdump")).split(b"\r\n")[:-1]
    assert sorted(lines) == sorted(
        [
            b"mg YSBi b",
            b"mg DQo= b",
            b"mg AA== b",
            b"mg YWJjZH8= b",
            b"mg \x80\xff",
            b"mg %41",
            b"mg " + b"k" * 250,
        ]
    )


def test_long_keys_of_bytes_to_encode_fit() -> None:
    store = Store()
    keys = [b"\xff" * 245 + b"%05d" % i for i in range(3000)]
    for number, key in enumerate(keys):
        store.put("set", key, b"", flags=2**32 - 1, exptime=2**32 - 1 - number, now=NOW)
    texts = list(portions(Walk(store), "metadump"))
    assert b"".join(texts).count(b"\n") == len(keys)
    assert max(map(len, texts)) <= 128 << 10


def test_what_has_expired_is_not_listed_and_a_crawl_frees_it() -> None:
    store = Store(shards=2)
    fill(store, b"stay", 1000)
    for i in range(500):
        store.put("set", b"go%d" % i, b"v" * 40, exptime=NOW + 1 + i % 2, now=NOW)
    listed = [key for text in portions(Walk(store), now=NOW + 1) for key in keys_in(text)]
    assert len(listed) == 1250
    walk, removed = Walk(store), 0
    while not walk.done:
        removed += walk.expire(NOW + 2)
    after = store.snapshot()
    assert (removed, walk.checked) == (500, 1500)
    assert (after["curr_items"], after["crawler_reclaimed"], after["expired_unfetched"]) == (1000, 500, 500)
    assert after["crawler_items_checked"] == 3000, "the dump has looked at them, too"


def test_a_crawl_looks_at_as_many_of_each_class_as_it_is_told() -> None:
    store = Store()
    for i in range(300):
        store.put("set", b"small%d" % i, b"", exptime=NOW, now=NOW - 1)
        store.put("set", b"large%d" % i, b"v" * 5000, exptime=NOW, now=NOW - 1)
    walk, removed = Walk(store, batch=7), 0
    while not walk.done:
        removed += walk.expire(NOW, 50)
    assert removed == 100


def test_a_walk_of_some_classes_meets_those_only() -> None:
    store = Store()
    fill(store, b"small", 500, 10)
    fill(store, b"large", 500, 3000)
    store.put("set", b"huge", b"v" * 400_000, now=NOW)
    numbers = [number for number, one in store.snapshot()["classes"].items() if one["number"]]
    assert len(numbers) > 2
    assert max(numbers) == store.class_count
    counts = {n: sum(len(keys_in(text)) for text in portions(Walk(store, [n]))) for n in numbers}
    assert counts == {number: store.snapshot()["classes"][number]["number"] for number in numbers}
    for wrong in (0, store.class_count + 1, -1):
        with pytest.raises(ValueError, match="slab class"):
            Walk(store, [wrong])


def test_the_histogram_rounds_sizes_up() -> None:
    store = Store(max_item=8 * MIB)
    sizes = [33, 64, 65, MIB, MIB + 1, 3 * MIB]
    for number, size in enumerate(sizes):  # an item is a header of 32 bytes, its key and its value
        store.put("set", b"%d" % number, b"v" * (size - 33), now=NOW)
    walk = Walk(store)
    while not walk.done:
        walk.measure(NOW)
    assert list(walk.sizes()) == [(64, 2), (96, 1), (MIB, 1), (2 * MIB, 1), (3 * MIB, 1)]


def test_a_limit_ends_the_walk() -> None:
    store = Store()
    fill(store, b"k", 1000)
    walk = Walk(store)
    text, count = walk.lines("cachedump", NOW, WALL, 0, 10)
    assert (text.count(b"\r\n"), count, walk.done) == (10, 10, True)
