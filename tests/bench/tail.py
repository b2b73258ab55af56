"""The slowest of a thousand requests at half the peak, beside memcached.

From the repository root, on a quiet machine with 2 CPUs (about a minute):

    python -m tests.bench.tail
    python -m tests.bench.tail --rounds 3 --seconds 4

The peak is what 50 connections get that ask as soon as they have an answer; half of the lower one of the two
servers' is then asked for at fixed times, whether answers have come or not, one request at a time on each of
50 connections. Nine gets to a set of 100 bytes. A latency begins when the request was due. Each server has
one thread and the first CPU, the load generator the second; they take turns. Ends with 2 when it cannot
measure.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence

from loadtest.run import prefill
from loadtest.workload import Load, Workload
from tests.bench.beside import REFERENCE, Took, against, both, place, program, serving, took

WORKLOAD = Workload(keys=100_000, popularity="uniform")
CONNECTIONS = 50
WARMUP = 0.5  # seconds
PEAKS = 3  # runs to find the peak
SHARES = (50, 99, 99.9)
WANTED = "<= 1.5"


def measure(rounds: int, seconds: float) -> None:
    """Print the table."""
    closed = Load(connections=CONNECTIONS, seconds=1.0, warmup=WARMUP)
    with serving(both()) as servers:
        for server in servers.values():
            prefill(place(server), WORKLOAD, Load(connections=4))
        peaks = {
            name: statistics.median(took(server, WORKLOAD, closed).rate for _ in range(PEAKS))
            for name, server in servers.items()
        }
        rate = min(peaks.values()) / 2
        runs: dict[str, list[Took]] = {name: [] for name in servers}
        for _ in range(rounds):
            for name, server in servers.items():
                runs[name].append(took(server, WORKLOAD, closed._replace(rate=rate, seconds=seconds)))
    print(f"{rate:,.0f} requests a second, open loop; medians of {rounds} rounds of {seconds:g} s\n")
    print("| server | peak/s | p50 us | p99 us | p99.9 us | against memcached | wanted |")
    print("|---|---|---|---|---|---|---|")
    reference = [run.latency.percentile(SHARES[-1]) for run in runs[REFERENCE]]
    for name, found in runs.items():
        latencies = [[run.latency.percentile(share) for run in found] for share in SHARES]
        middle = " | ".join(f"{statistics.median(values):,.0f}" for values in latencies)
        ratio = " | " if name == REFERENCE else f"{against(latencies[-1], reference)} | {WANTED}"
        print(f"| {name} | {peaks[name]:,.0f} | {middle} | {ratio} |")


def main(given: Sequence[str] | None = None) -> int:
    """Run as a program."""
    return program("tail", __doc__, measure, given, rounds=7)


if __name__ == "__main__":
    sys.exit(main())
