"""What a second worker costs: processor time a request with `-t 2` against `-t 1`, under the same load.

From the repository root, on a quiet machine with 2 CPUs (about a minute):

    python -m tests.bench.threads
    python -m tests.bench.threads --rounds 3 --seconds 1

Two loads of 50 connections, nine gets to a set of 100 bytes: half the peak of `-t 1`, asked for at fixed
times one request at a time on each connection; and 16 requests in flight on each, as fast as answers come.
Here the servers and the load generator share all CPUs, because two workers on one CPU would not be two. The
two servers take turns; a ratio is that of two runs of the same round. "Waits" is how often a thread of the
server went to sleep, a thousand requests: who serves fewer requests each time it wakes up pays for more of
that. Ends with 2 when it cannot measure.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from loadtest.run import prefill
from loadtest.workload import Load, Workload
from tests.bench.beside import Took, against, place, program, serving, took
from tests.servers import Server, command

WORKLOAD = Workload(keys=100_000, popularity="uniform")
WARMUP = 0.5  # seconds
PEAKS = 3  # runs to find the peak
ONE, TWO = "-t 1", "-t 2"
WANTED = "<= 1.1"


def waits(server: Server) -> int:
    """How often threads of the server that live have gone to sleep so far."""
    tasks = Path(f"/proc/{server.pid}/task").iterdir()
    lines = [line for task in tasks for line in (task / "status").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))


def measure(rounds: int, seconds: float) -> None:
    """Print the table."""
    closed = Load(connections=50, seconds=1.0, warmup=WARMUP)
    starts = {flags: lambda port, flags=flags: command(port, *flags.split()) for flags in (ONE, TWO)}
    with serving(starts, apart=False) as servers:
        for server in servers.values():
            prefill(place(server), WORKLOAD, Load(connections=4))
        rate = statistics.median(took(servers[ONE], WORKLOAD, closed).rate for _ in range(PEAKS)) / 2
        loads = {
            "open loop": closed._replace(rate=rate, seconds=seconds),
            "pipeline 16": closed._replace(depth=16, seconds=seconds),
        }
        print("| load | server | requests/s | CPU us | against -t 1 | wanted | waits |")
        print("|---|---|---|---|---|---|---|")
        for load_name, load in loads.items():
            runs: dict[str, list[tuple[Took, float]]] = {name: [] for name in servers}
            for _ in range(rounds):
                for name, server in servers.items():
                    before = waits(server)
                    run = took(server, WORKLOAD, load)
                    requests = run.rate * (load.seconds + load.warmup)
                    runs[name].append((run, 1000 * (waits(server) - before) / requests))
            for name, found in runs.items():
                cpu = [run.cpu for run, _ in found]
                ratio = " | "
                if name != ONE:
                    ratio = f"{against(cpu, [run.cpu for run, _ in runs[ONE]])} | {WANTED}"
                rates = statistics.median(run.rate for run, _ in found)
                print(
                    f"| {load_name} | {name} | {rates:,.0f} | {statistics.median(cpu):.2f} | {ratio} "
                    f"| {statistics.median(slept for _, slept in found):.0f} |",
                    flush=True,
                )


def main(given: Sequence[str] | None = None) -> int:
    """Run as a program."""
    return program("threads", __doc__, measure, given, rounds=7)


if __name__ == "__main__":
    sys.exit(main())
