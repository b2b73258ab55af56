"""Journals and the watch log on a store alone: its evictions are records that any thread may write."""

from __future__ import annotations

import itertools
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cacheserver.engine import Engine
from cacheserver.store.store import Store
from cacheserver.watchlog import EVICTIONS, FETCHERS, Queue, WatchLog

LINE = re.compile(
    rb"ts=(\d+)\.(\d{6}) gid=(\d+) type=eviction key=(\S+) fetch=(yes|no) ttl=(-?\d+) la=(\d+) "
    rb"clsid=(\d+) size=(\d+)"
)
MIB = 1 << 20
WRITERS = 3
PATIENCE = 60.0


def full_store(shards: int = 1) -> Store:
    """A store in which every further item of its kind evicts another."""
    store = Store(shards=shards, capacity=4 * shards * MIB)
    for number in range(60 * shards):
        store.put("set", b"fill:%d" % number, bytes(100_000))
    return store


def read(queue: Queue) -> list[bytes]:
    """All lines that wait, each whole."""
    text = b""
    while part := queue.take(1000):
        text += part
    assert text[-1:] in (b"", b"\n")
    return text.splitlines()


def test_an_eviction_is_told_with_all_its_fields() -> None:
    store = full_store()
    store.steer("lru")  # so that what was read goes, too, when it is old
    log = WatchLog([], store)
    queue = log.add(EVICTIONS, 65536)
    store.put("set", b"to go/\xff", bytes(100_000), exptime=1000, now=5)
    store.get(b"to go/\xff", now=6)
    lines: list[bytes] = []
    while not any(b"to%20go" in line for line in lines):
        assert len(lines) < 1000
        store.put("set", b"more:%d" % len(lines), bytes(100_000), now=8)
        log.drain()
        lines += read(queue)
    match = LINE.fullmatch(lines[-1])
    assert match is not None
    assert match.groups()[3:7] == (b"to%20go%2F%FF", b"yes", b"992", b"2")
    assert match[9] == b"100000"
    classes = store.snapshot()["classes"]
    assert int(match[8]) in classes


def test_an_item_without_an_end_has_a_ttl_of_minus_one() -> None:
    store = full_store()
    log = WatchLog([], store)
    queue = log.add(EVICTIONS, 65536)
    store.put("set", b"x", bytes(100_000))
    log.drain()
    match = LINE.fullmatch(read(queue)[0])
    assert match is not None
    assert (match[5], match[6]) == (b"no", b"-1")


def test_only_the_kinds_a_queue_wants_are_kept() -> None:
    store = full_store()
    log = WatchLog([Engine(store)], store)
    queue = log.add(FETCHERS, 65536)
    for number in range(20):
        store.put("set", b"%d" % number, bytes(100_000))
    assert (log.drain(), read(queue)) == (0, [])
    assert log.counters()["log_worker_written"] == 0


def test_a_full_journal_drops_and_counts_and_keeps_the_oldest() -> None:
    store = full_store()
    log = WatchLog([], store, ring_bytes=4096)
    queue = log.add(EVICTIONS, 65536)
    evictions = store.snapshot()["evictions"]
    for number in range(400):
        store.put("set", b"k%d" % number, bytes(100_000))
    evictions = store.snapshot()["evictions"] - evictions
    assert log.drain() == log.counters()["log_worker_written"] < 4096 // 48
    assert log.counters()["log_worker_dropped"] == evictions - log.counters()["log_worker_written"]
    gids = [int(LINE.fullmatch(line)[3]) for line in read(queue)]  # type: ignore[index]
    assert gids == list(range(gids[0], gids[0] + len(gids)))


def test_a_full_queue_skips_lines_and_says_how_many() -> None:
    store = full_store()
    log = WatchLog([], store)
    slow, quick = log.add(EVICTIONS, 1024), log.add(EVICTIONS, 65536)
    for number in range(40):
        store.put("set", b"k%d" % number, bytes(100_000))
    log.drain()
    kept, everything = read(slow), read(quick)
    assert 0 < len(kept) < len(everything)
    assert kept == everything[: len(kept)]
    skipped = len(everything) - len(kept)
    assert log.counters()["log_watcher_skipped"] == skipped
    assert log.counters()["log_watcher_sent"] == len(kept) + len(everything)
    assert log.drain() == 0
    assert read(slow) == [b"skipped=%d" % skipped]
    store.put("set", b"one more", bytes(100_000))
    log.drain()
    assert read(slow) == read(quick) != []


def test_queues_come_and_go_and_are_counted_out() -> None:
    store = full_store()
    log = WatchLog([], store)
    queues = [log.add(EVICTIONS, 1024) for _ in range(32)]
    with pytest.raises(MemoryError):
        log.add(EVICTIONS, 1024)
    for queue in queues:
        log.remove(queue)
    log.remove(queues[0])
    before = log.counters()
    store.put("set", b"unseen", bytes(100_000))
    assert log.drain() == 0
    assert log.counters() == before
    for bad in ({"ring_bytes": 0}, {"ring_bytes": -8}):
        with pytest.raises(ValueError, match="bytes or more"):
            WatchLog([], store, **bad)
    with pytest.raises(ValueError, match="bytes or more"):
        log.add(EVICTIONS, 10)


def test_writers_and_a_reader_at_once_lose_nothing_but_what_is_counted() -> None:
    store = full_store(shards=4)
    log = WatchLog([], store, ring_bytes=1024)
    queue = log.add(EVICTIONS, 1 << 20)
    lines: list[bytes] = []
    with writing(store) as until:
        # One shard's records keep their order, and so each writer's keys in it.
        while len(lines) <= 100 or any(len(keys_of(lines, each)) < 2 for each in range(WRITERS)):
            assert time.monotonic() < until, "nothing of some writer's has come through"
            log.drain()
            lines += read(queue)
    log.drain()
    lines += read(queue)
    matches = [LINE.fullmatch(line) for line in lines]
    assert all(matches)
    counts = log.counters()
    assert counts["log_worker_written"] == len(lines) == counts["log_watcher_sent"] > 100
    gids = [int(match[3]) for match in matches if match]
    assert len(set(gids)) == len(gids)


def test_switching_on_and_off_while_writers_write() -> None:
    store = full_store(shards=4)
    log = WatchLog([], store, ring_bytes=1024)
    seen = turns = 0
    with writing(store) as until:
        while turns <= 10 or seen == 0:
            assert time.monotonic() < until, "nothing has come through"
            queue = log.add(EVICTIONS, 65536)
            turns += 1
            log.drain()
            for line in read(queue):
                assert LINE.fullmatch(line)
                seen += 1
            log.remove(queue)
    assert 0 < seen <= log.counters()["log_worker_written"]


def keys_of(lines: list[bytes], writer: int) -> set[bytes]:
    return {
        match[4] for line in lines if (match := LINE.fullmatch(line)) and match[4].startswith(b"w%d" % writer)
    }


@contextmanager
def writing(store: Store) -> Iterator[float]:
    """Threads that write as long as the reader likes: nothing says whom of them all the system lets run.

    Yields when to give up, by time.monotonic().
    """
    done = threading.Event()
    writers = [threading.Thread(target=write, args=(store, each, done)) for each in range(WRITERS)]
    for writer in writers:
        writer.start()
    try:
        yield time.monotonic() + PATIENCE
    finally:
        done.set()
        for writer in writers:
            writer.join()


def write(store: Store, name: int, done: threading.Event) -> None:
    for number in itertools.count():
        if done.is_set():
            break
        store.put("set", b"w%d:%d" % (name, number), bytes(100_000))
