"""What the store's locks leave of a second processor: operations a second of 1 to 4 threads in one process.

From the repository root, on a quiet machine (about a minute):

    python -m tests.bench.contention
    python -m tests.bench.contention --rounds 3 --threads 1 2 --shards 4

Nine gets to a set of 100-byte values, over 100,000 keys drawn evenly. Each thread does the same number of
operations in one stretch without the interpreter's lock, so what the threads share is the store's locks and
memory. "CPU ns" is processor time an operation: it grows where threads pull cache lines from each other, and
not where they wait for a lock. The store has as many shards as a server with so many workers gives it, or
what --shards says for all of them. The rate is that of all threads together, from their common start to the
last one's end; the rows take turns within a round, and a ratio is that of two runs of the same round.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from cacheserver.server import shard_count
from cacheserver.store.drive import drive, fill
from cacheserver.store.store import Store
from loadtest.replay import at_least

KEYS = 100_000
VALUE = 100  # bytes
WANTED = {2: ">= 1.7"}
UNLIMITED = 1 << 40  # bytes of memory: the number of shards depends on the workers only


class Took(NamedTuple):
    """One run: operations a second of all threads, nanoseconds of a processor an operation."""

    rate: float
    cpu: float


def took(store: Store, threads: int, operations: int) -> Took:
    """Let so many threads do so many operations each."""
    start = threading.Barrier(threads)

    def work(seed: int) -> tuple[float, float, float]:
        start.wait()
        began, cpu = time.perf_counter(), time.thread_time()
        if drive(store, KEYS, VALUE, operations, seed) == 0:
            raise RuntimeError("the store has lost its items")
        return began, time.perf_counter(), time.thread_time() - cpu

    with ThreadPoolExecutor(threads) as pool:
        began, ended, cpu = zip(*pool.map(work, range(1, threads + 1)), strict=True)
    count = threads * operations
    return Took(count / (max(ended) - min(began)), 1e9 * sum(cpu) / count)


def filled(shards: int) -> Store:
    store = Store(shards=shards)
    if fill(store, KEYS, VALUE) != KEYS:
        raise RuntimeError("the store has no room")
    return store


def main(given: Sequence[str] | None = None) -> int:
    """Run as a program."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.contention",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=at_least(1), default=7)
    parser.add_argument("--operations", type=at_least(1), default=4_000_000, help="of each thread (4000000)")
    parser.add_argument("--threads", type=at_least(1), nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--shards", type=at_least(1), help="of every store, a power of two")
    plan = parser.parse_args(given)
    shards = {count: plan.shards or shard_count(count, UNLIMITED) for count in (1, *plan.threads)}
    stores = {count: filled(shards[count]) for count in shards}
    runs: dict[int, list[Took]] = {count: [] for count in stores}
    for _ in range(plan.rounds):
        for count, store in stores.items():
            runs[count].append(took(store, count, plan.operations))
    print(f"{len(os.sched_getaffinity(0))} CPUs\n")
    print("| threads | shards | operations/s | against one thread | wanted | CPU ns |")
    print("|---|---|---|---|---|---|")
    for count, found in runs.items():
        rate, cpu = (statistics.median(column) for column in zip(*found, strict=True))
        ratios = [mine.rate / one.rate for mine, one in zip(found, runs[1], strict=True)]
        against = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(
            f"| {count} | {shards[count]} | {rate:,.0f} | {against} | {WANTED.get(count, '')} | {cpu:.0f} |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
