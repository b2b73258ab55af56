"""The index gives its memory back while two threads ask for that at once, and loses no key by it."""

from __future__ import annotations

import threading

from cacheserver.store.store import Store

MIB = 1 << 20
KEPT = 500


def test_two_threads_that_shrink_the_index_at_once_lose_no_key() -> None:
    store = Store()
    for round_ in range(6):
        for i in range(60_000):
            store.put("set", b"r%d-%d" % (round_, i), b"")
        for i in range(KEPT, 60_000):
            store.delete(b"r%d-%d" % (round_, i))
        threads = [threading.Thread(target=store.maintain, args=(2, 20_000)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        kept = sum(store.get(b"r%d-%d" % (round_, i)) is not None for i in range(KEPT))
        assert kept == KEPT
    assert store.snapshot()["hash_bytes"] <= MIB
    assert store.snapshot()["curr_items"] == 6 * KEPT
