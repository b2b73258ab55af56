"""What the number of items costs: processor time of a get among 10 k, 1 M and 20 M, beside memcached.

From the repository root, on a quiet machine with 2 CPUs and 9 GiB to spare (about five minutes, most of it
filling):

    python -m tests.bench.size
    python -m tests.bench.size --rounds 3 --seconds 1

Gets of 100-byte values under keys drawn evenly from all of them, 50 connections, 16 requests in flight on
each. Each server has one thread and the first CPU, the load generator the second; they grow from one size to
the next and take turns at each. What a larger set costs is cache misses, in the server and in the kernel
beside it. The times of the sizes are minutes apart, so a shared host may have become slower or faster between
them: memcached's own figures say so. Ends with 2 when it cannot measure.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence

from loadtest.results import Second
from loadtest.run import LoadError, prefill
from loadtest.workload import Load, Workload
from tests.bench.beside import OURS, Took, both, place, program, serving, took
from tests.servers import Server

SIZES = (10_000, 1_000_000, 20_000_000)
MEMORY = 8192  # MiB that memcached may take: it must evict nothing
WARMUP = 0.5  # seconds
FILLING = Load(connections=4, depth=256)
WANTED = "<= 2.5"


def fill(name: str, server: Server, workload: Workload) -> None:
    """Set every key, and say how far it is."""
    done = 0

    def progress(second: Second) -> None:
        nonlocal done
        done += second.counters.sets
        sys.stderr.write(f"\r{name}: {done / 1e6:.1f} of {workload.keys / 1e6:g} million set")
        sys.stderr.flush()

    result = prefill(place(server), workload, FILLING, progress)
    sys.stderr.write("\r\033[K")
    if result.problem:
        raise LoadError(f"{name} could not be filled: {result.problem}")


def full(server: Server, count: int) -> None:
    """Raise LoadError where a server does not hold all of its items."""
    held = int(server.stats()["curr_items"])
    if held < count:
        raise LoadError(f"a server holds {held} of {count} items: is there memory for all of them?")


def measure(rounds: int, seconds: float) -> None:
    """Print the table."""
    load = Load(connections=50, depth=16, seconds=seconds, warmup=WARMUP)
    least: dict[str, float] = {}
    with serving(both(memory=MEMORY)) as servers:
        print("| items | server | gets/s | CPU us | against 10 k | wanted |\n|---|---|---|---|---|---|")
        for size in SIZES:
            workload = Workload(keys=size, popularity="uniform", get_share=1.0)
            for name, server in servers.items():
                fill(name, server, workload)
                full(server, size)
            runs: dict[str, list[Took]] = {name: [] for name in servers}
            for _ in range(rounds):
                for name, server in servers.items():
                    runs[name].append(took(server, workload, load))
            for name, found in runs.items():
                rate = statistics.median(run.rate for run in found)
                cpu = statistics.median(run.cpu for run in found)
                grown = cpu / least.setdefault(name, cpu)
                wanted = WANTED if name == OURS and size == SIZES[-1] else ""
                print(f"| {size:,} | {name} | {rate:,.0f} | {cpu:.3f} | {grown:.2f} | {wanted} |", flush=True)


def main(given: Sequence[str] | None = None) -> int:
    """Run as a program."""
    return program("size", __doc__, measure, given, rounds=5)


if __name__ == "__main__":
    sys.exit(main())
