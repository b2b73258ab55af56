"""The arithmetic under the tables of hit ratios: plain LRU, shares of the keys, streams with sizes."""

from __future__ import annotations

import random
from array import array
from pathlib import Path

import pytest

from cacheserver.store.store import Store
from loadtest.traces import Block
from tests.bench.cases import Stream, load, lru
from tests.bench.hit_ratio import fit, held, in_process, put_between_marks


def sized(requests: list[tuple[int, int]]) -> Stream:
    block = Block(array("q", [key for key, _ in requests]), array("q", [size for _, size in requests]))
    return load("t", [block], 1000, {})[1]


def test_plain_lru_is_plain_lru() -> None:
    keys = [1, 2, 3, 1, 4, 2, 1, 3]
    assert lru(keys, None, 3) == (2, 8)  # 1 is there twice; 4 has put out 2, and 2 then 3
    assert lru(keys, None, 4) == (4, 8)
    assert lru(keys, [10] * 8, 30) == (2, 8)
    assert lru([1, 2, 1], [10, 25, 10], 30) == (0, 3)
    assert lru(keys, None, 3, most_missed=3) == (1, 5)


def test_a_stream_with_sizes_comes_without_and_with_them() -> None:
    block = Block(array("q", [5, 6, 5]), array("q", [10, 20, 10]))
    plain, whole = load("t", [block], 2, {})
    assert (list(plain.keys), plain.sizes) == ([5, 6], None)
    assert whole.distinct == {5: 10, 6: 20}


def test_copies_fill_the_cache_and_share_no_key() -> None:
    stream = sized([(key % 50, 100 + key % 50) for key in range(500)])
    total = sum(stream.distinct.values()) + 16 * 50
    copies = stream.filling(10, total * 3 // 10)
    assert len(copies.keys) == 3 * 500
    assert len(copies.distinct) == 3 * 50
    assert sorted(copies.distinct.values()) == sorted(3 * list(stream.distinct.values()))
    every = [list(copies.keys[copy::3]) for copy in range(3)]
    assert not set(every[0]) & set(every[1])
    # A copy is the stream from another place on: the keys come again at the same distances.
    assert [every[1].index(key) for key in every[1][:60]] == [*range(50), *range(10)]


@pytest.mark.parametrize("count", [40, 205, 5000])
def test_a_store_is_found_that_holds_so_many_items(count: int) -> None:
    capacity, size = fit(count)
    store = Store(capacity=capacity)
    keys = dict.fromkeys(range(2 * count), size)
    names = [b"%016x" % key for key in keys]
    assert in_process(store, names, None, size) == 0
    items, nbytes = held(store, keys)
    assert items == pytest.approx(count, rel=0.05)
    assert nbytes == items * (16 + size)


def test_in_process_every_hit_is_counted() -> None:
    dice = random.Random(1)
    keys = [dice.randrange(100) for _ in range(5000)]
    names = [b"%016x" % key for key in keys]
    assert in_process(Store(), names, None, 10) == 5000 - len(set(keys))
    assert in_process(Store(), names, keys, 0) == 5000 - len(set(keys))


def test_a_table_takes_the_place_of_the_last_one(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("above\n<!-- t -->\nold\n<!-- end of t -->\nbelow\n")
    put_between_marks(path, "t", "new")
    put_between_marks(path, "t", "newer")
    assert path.read_text() == "above\n<!-- t -->\n\nnewer\n<!-- end of t -->\nbelow\n"
    with pytest.raises(SystemExit):
        put_between_marks(path, "other", "new")
