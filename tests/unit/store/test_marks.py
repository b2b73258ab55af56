"""Stale items and their winners: what moving, overwriting and removing must and must not do to the marks."""

from __future__ import annotations

from cacheserver.store.store import Store

MIB = 1 << 20


def test_a_moved_item_keeps_its_marks() -> None:
    store = Store()
    keys = [b"k%d" % i for i in range(40_000)]
    for key in keys:
        assert store.put("set", key, b"v" * 300) == "STORED"
    for number, key in enumerate(keys):
        if number % 4 == 0:
            for now in (1, 2, 3):
                store.get(key, now)
            assert store.invalidate(key, 3)
            if number % 8 == 0:
                assert store.claim(key, now=3) == (True, False, True)
        elif number % 4 < 3:
            assert store.delete(key, 3)
    store.shrink(4 * MIB, False)
    while store.pay(1000):
        pass
    assert store.snapshot()["slab_reassign_rescues"] > 1000, "nothing was moved: this test shows nothing"
    kept = 0
    for number in range(0, len(keys), 4):
        claim = store.claim(keys[number], now=4)
        if claim is not None:
            kept += 1
            assert claim == (True, number % 8 == 0, number % 8 != 0)
    assert kept > 1000


def test_a_new_value_has_no_marks() -> None:
    for value in (b"same", b"another size" * 100, b"large" * 60_000):
        store = Store()
        store.put("set", b"k", b"same")
        store.invalidate(b"k")
        assert store.claim(b"k") == (True, False, True)
        store.put("set", b"k", value)
        assert store.claim(b"k") == (False, False, False)


def test_marks_end_with_the_item() -> None:
    store = Store()
    store.put("set", b"k", b"v", exptime=5, now=2)
    store.invalidate(b"k", 2)
    assert store.claim(b"k", now=5) is None
    store.put("add", b"k", b"v", now=5)
    assert store.claim(b"k", now=5) == (False, False, False)
    store.invalidate(b"k", 5)
    store.delete(b"k", 5)
    store.put("add", b"k", b"v", now=5)
    assert store.claim(b"k", now=5) == (False, False, False)
