"""The longest pauses of a store whose index grows to many items, is flushed, grows again and shrinks.

Items of 10-byte keys and 1-byte values, so that the index is as large as it can be beside them. Prints for
each kind of call how many there were, the longest one on the wall clock and in CPU time of the thread, and
how many took more than a millisecond of each. Calls named `nothing` do nothing: what they show, by
the second, is the machine's and not the store's. 50 million items take 3.8 GB and some minutes:

    python -m tests.bench.index_growth
    python -m tests.bench.index_growth --items 5000000
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable
from typing import Any

from cacheserver.housekeeping import UPKEEP_US
from cacheserver.store.store import Store

Operation = Callable[[bytes], object]

MIB = 1 << 20
LONG = 1_000_000  # nanoseconds
UPKEEP_NS = 100_000_000
SNAPSHOT_NS = 1_000_000_000
STRIDE = 7_368_787  # a prime: steps of it go over all numbers below another count in no order


class Pauses:
    """Calls by name: how many, the longest (ns of wall clock, of CPU), how many above LONG (of each)."""

    def __init__(self) -> None:
        self.rows: dict[str, list[int]] = {}

    def note(self, name: str, wall: int, cpu: int) -> None:
        row = self.rows.setdefault(name, [0] * 5)
        row[0] += 1
        row[1] = max(row[1], wall)
        row[2] = max(row[2], cpu)
        row[3] += wall > LONG
        row[4] += cpu > LONG

    def call(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        wall, cpu = time.perf_counter_ns(), time.thread_time_ns()
        result = function(*arguments)
        self.note(name, time.perf_counter_ns() - wall, time.thread_time_ns() - cpu)
        return result

    def show(self) -> None:
        print(f"{'call':26} {'calls':>10} {'longest us':>11} {'> 1 ms':>7} {'CPU us':>8} {'> 1 ms':>7}")
        for name, (calls, wall, cpu, slow, dear) in self.rows.items():
            print(f"{name:26} {calls:10} {wall / 1e3:11.0f} {slow:7} {cpu / 1e3:8.0f} {dear:7}")


class Run:
    """One store under a sequence of phases; its upkeep runs as in the server."""

    def __init__(self, shards: int) -> None:
        self.store = Store(shards=shards)
        self.pauses = Pauses()
        self.upkept = self.looked = time.perf_counter_ns()

    def tend(self, phase: str) -> None:
        now = time.perf_counter_ns()
        if now - self.upkept >= UPKEEP_NS:
            self.upkept = now
            self.pauses.call(f"maintain, {phase}", self.store.maintain, 1 + now // 1_000_000_000, UPKEEP_US)
        if now - self.looked >= SNAPSHOT_NS:
            self.looked = now
            self.pauses.call(f"snapshot, {phase}", self.store.snapshot)

    def each(self, name: str, phase: str, count: int, operation: Operation, stride: int = 1) -> None:
        """Do an operation for `count` keys and note the long ones. One call ends where the next begins."""
        wall_clock, cpu_clock = time.perf_counter_ns, time.thread_time_ns
        worst_wall = worst_cpu = 0
        name = f"{name}, {phase}"
        for begin in range(0, count, 1000):
            keys = [b"%010d" % (n * stride % count) for n in range(begin, min(begin + 1000, count))]
            wall, cpu = wall_clock(), cpu_clock()
            for key in keys:
                operation(key)
                now, used = wall_clock(), cpu_clock()
                if now - wall > worst_wall or used - cpu > worst_cpu or now - wall > LONG:
                    self.pauses.note(name, now - wall, used - cpu)
                    worst_wall = max(worst_wall, now - wall)
                    worst_cpu = max(worst_cpu, used - cpu)
                wall, cpu = now, used
            self.tend(phase)
        self.pauses.rows[name][0] = count

    def settle(self, phase: str) -> None:
        """Upkeep until the store gives no more back."""
        before = -1
        while before != self.store.ledger()[0]:
            before = self.store.ledger()[0]
            for n in range(20):
                self.pauses.call(f"maintain, {phase}", self.store.maintain, 1000 + n, UPKEEP_US)

    def report(self, what: str) -> None:
        snap = self.store.snapshot()
        print(
            f"{what:12} {snap['curr_items']:9} items, {snap['bytes_committed'] // MIB:5} MiB,"
            f" index {snap['hash_bytes'] // MIB:4} MiB",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--items", type=int, default=50_000_000)
    parser.add_argument("--shards", type=int, default=4)
    args = parser.parse_args()
    gc.disable()
    run = Run(args.shards)
    put, get, delete = run.store.put, run.store.get, run.store.delete
    run.each("nothing", "before", min(args.items, 1_000_000), lambda key: None)
    run.each("put", "growing", args.items, lambda key: put("set", key, b"v"))
    run.report("grown")
    run.each("get", "at full size", min(args.items, 1_000_000), get, STRIDE)
    run.pauses.call("flush", run.store.flush)
    run.settle("after the flush")
    run.report("flushed")
    half = args.items // 2
    run.each("put", "growing again", half, lambda key: put("set", key, b"v"))
    run.report("grown again")
    run.each("delete", "shrinking", half // 10 * 9, delete, STRIDE)
    run.settle("shrinking")
    run.report("shrunk")
    run.each("get", "shrunk", half // 10, get)
    run.each("nothing", "after", half, lambda key: None)
    run.pauses.show()


if __name__ == "__main__":
    main()
