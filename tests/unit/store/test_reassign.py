"""Moving pages between slab classes on request."""

from __future__ import annotations

import pytest

from cacheserver.store.store import Store

MIB = 1 << 20


def pages(store: Store) -> dict[int, int]:
    return {number: one["total_pages"] for number, one in store.snapshot()["classes"].items()}


def class_of(store: Store, size: int) -> int:
    """The number of the class that an item with a value of `size` bytes has gone to."""
    (found,) = (
        number
        for number, one in store.snapshot()["classes"].items()
        if one["mem_requested"] and one["number"]
    )
    return int(found)


@pytest.fixture
def store() -> Store:
    """Eight pages of one class, half of each free."""
    store = Store(capacity=64 * MIB)
    keys = [b"k%d" % i for i in range(8 * 1000)]
    for key in keys:
        assert store.put("set", key, b"v" * 980) == "STORED"
    for key in keys[::2]:
        store.delete(key)
    return store


def test_a_page_goes_to_the_other_class_and_its_items_stay(store: Store) -> None:
    source = class_of(store, 980)
    before, held = pages(store)[source], store.snapshot()["total_malloced"]
    assert store.reassign(source, 5) == "OK"
    after = store.snapshot()
    assert (pages(store)[source], pages(store)[5]) == (before - 1, 1)
    assert after["total_malloced"] == held
    assert after["slabs_moved"] == 1
    assert after["curr_items"] == 4000, "there was room for every item of the page"
    assert all(store.get(b"k%d" % i) for i in range(1, 8000, 2))


def test_a_page_may_go_to_the_empty_ones_and_come_back(store: Store) -> None:
    source = class_of(store, 980)
    before = pages(store)[source]
    assert store.reassign(0, 5) == "NOSPARE"
    assert store.reassign(source, 0) == "OK"
    assert store.snapshot()["slab_global_page_pool"] == 1
    assert store.reassign(0, source) == "OK"
    assert (store.snapshot()["slab_global_page_pool"], pages(store)[source]) == (0, before)


def test_a_full_class_makes_room_by_its_coldest_items() -> None:
    store = Store(capacity=4 * MIB)
    for i in range(20_000):
        store.put("set", b"k%d" % i, b"v" * 200)
    source, before = class_of(store, 200), store.snapshot()["curr_items"]
    assert store.reassign(-1, 100) == "OK"
    after = store.snapshot()
    assert pages(store)[100] == 1
    assert 0 < before - after["curr_items"] <= after["classes"][source]["chunks_per_page"]
    assert store.put("set", b"new", b"v" * 200) == "STORED"


@pytest.mark.parametrize(
    ("source", "target", "answer"),
    [
        (1, 1, "SAME"),
        (0, 0, "SAME"),
        (1, 2, "NOSPARE"),
        (-2, 1, "BADCLASS"),
        (1, -1, "BADCLASS"),
        (1, 9999, "BADCLASS"),
        (9999, 1, "BADCLASS"),
    ],
)
def test_what_cannot_be_done_is_told(store: Store, source: int, target: int, answer: str) -> None:
    assert store.reassign(source, target) == answer


def test_items_with_pages_of_their_own_are_left_alone() -> None:
    store = Store()
    for i in range(5):
        store.put("set", b"k%d" % i, b"v" * 500_000)
    large = store.class_count
    assert pages(store)[large] == 5
    assert {store.reassign(large, 3), store.reassign(large, 0), store.reassign(3, large)} == {"NOSPARE"}
    assert store.reassign(large, large) == "SAME"
    assert {store.reassign(large + 1, 3), store.reassign(3, large + 1)} == {"BADCLASS"}
    assert store.reassign(-1, 3) == "BADCLASS"
    assert store.snapshot()["curr_items"] == 5
