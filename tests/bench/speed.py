"""Requests a second and processor time a request, beside whatever memcached and redis-server are installed.

From the repository root, on a quiet machine with 2 CPUs or more (about seven minutes):

    python -m tests.bench.speed
    python -m tests.bench.speed --rounds 3 --seconds 1 --cases set-100 multiget-100

Each server has one thread and the first CPU, the load generator (`loadtest`) has the second. The servers take
turns within a round; a ratio is that of two runs of the same round, and the median over the rounds is
printed: between two rounds a shared host may become half as fast. "CPU" is what the kernel has charged the
server for, divided by all requests. A multiget is one request. Redis is asked in RESP, and not where that
has no such command.

Ends with 2 when it cannot measure.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import socket
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from loadtest.run import LoadError, prefill
from loadtest.workload import Load, Workload
from tests.bench.beside import OURS, PROCESSORS, REFERENCE, Took, against, place, took
from tests.servers import HOST, START_TIMEOUT, Server, command, free_port

WARMUP = 0.5  # seconds before each run
MEMORY = 1024  # MiB of the servers that need to be told
REDIS = "redis"

SMALL = Workload(keys=100_000, popularity="uniform")
LARGE = Workload(keys=1_000, popularity="uniform", key_prefix="large", value_size="fixed:65536")


class Case(NamedTuple):
    """One kind of load. `redis`: whether Redis can be asked so."""

    workload: Workload
    connections: int
    depth: int
    redis: bool = True


CASES = {
    "mixed-100": Case(SMALL, 50, 1),
    "mixed-100, 1000 connections": Case(SMALL, 1000, 1),
    "mixed-100, pipeline 16": Case(SMALL, 50, 16),
    "multiget-100": Case(SMALL._replace(get_share=1.0, multiget=100), 10, 1),
    "get-64k": Case(LARGE._replace(get_share=1.0), 10, 1),
    "set-100": Case(SMALL._replace(get_share=0.0), 50, 1),
    "set-64k": Case(LARGE._replace(get_share=0.0), 10, 1),
    "meta mixed-100": Case(SMALL._replace(protocol="meta"), 50, 1, redis=False),
    "meta mixed-100, pipeline 16": Case(SMALL._replace(protocol="meta"), 50, 16, redis=False),
}


def installed() -> Iterator[tuple[str, int, list[str]]]:
    """Yield (name, port, command line) of the servers there are, each with one thread."""
    if memcached := shutil.which("memcached"):
        port = free_port()
        flags = f"-u root -t 1 -m {MEMORY} -c 4096 -l {HOST} -U 0 -p {port}"
        yield REFERENCE, port, [memcached, *flags.split()]
    port = free_port()
    yield OURS, port, command(port, "-t", "1", "-c", "4096")
    if redis := shutil.which("redis-server"):
        port = free_port()
        flags = f"--appendonly no --maxclients 4096 --bind {HOST} --port {port}"
        yield REDIS, port, [redis, "--save", "", *flags.split()]


def wait_until_open(port: int) -> None:
    """Return when somebody listens there. Raises OSError after START_TIMEOUT."""
    end = time.monotonic() + START_TIMEOUT
    while True:
        try:
            socket.create_connection((HOST, port), timeout=START_TIMEOUT).close()
            return
        except ConnectionRefusedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


def measured(server: Server, case: Case, seconds: float, resp: bool) -> Took:
    """Load one server with one case."""
    workload = case.workload._replace(protocol="resp") if resp else case.workload
    return took(server, workload, Load(case.connections, case.depth, seconds=seconds, warmup=WARMUP))


def compare(names: Sequence[str], rounds: int, seconds: float) -> None:
    """Print a table of all cases."""
    with contextlib.ExitStack() as stack:
        servers: dict[str, Server] = {}
        os.sched_setaffinity(0, {PROCESSORS[0]})
        for name, port, words in installed():
            servers[name] = stack.enter_context(Server(words, None))  # Redis has no version to wait for
            wait_until_open(port)
            servers[name].address = (HOST, port)
        os.sched_setaffinity(0, {PROCESSORS[1]})
        for name, server in servers.items():
            for workload in (SMALL, LARGE):
                protocol = "resp" if name == REDIS else "text"
                prefill(place(server), workload._replace(protocol=protocol), Load(connections=4))
        print("| case | server | requests/s | against memcached | CPU us | against memcached | p99 us |")
        print("|---|---|---|---|---|---|---|")
        for name in names:
            taken: dict[str, list[Took]] = {}
            for _ in range(rounds):
                for each, server in servers.items():
                    if each != REDIS or CASES[name].redis:
                        run = measured(server, CASES[name], seconds, each == REDIS)
                        taken.setdefault(each, []).append(run)
            for each, runs in taken.items():
                print(row(name, each, runs, taken.get(REFERENCE)), flush=True)


def row(case: str, server: str, runs: Sequence[Took], reference: Sequence[Took] | None) -> str:
    """Return one line of the table: medians, and ratios of the same round."""
    rate = statistics.median(one.rate for one in runs)
    cpu = statistics.median(one.cpu for one in runs)
    p99 = statistics.median(one.latency.percentile(99) for one in runs)
    faster = cheaper = ""
    if reference is not None:
        faster = against([one.rate for one in runs], [one.rate for one in reference])
        cheaper = against([one.cpu for one in runs], [one.cpu for one in reference])
    return f"| {case} | {server} | {rate:,.0f} | {faster} | {cpu:.2f} | {cheaper} | {p99:,.0f} |"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each run")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="CASE")
    wanted = parser.parse_args()
    if len(PROCESSORS) < 2:
        print("speed: this needs a CPU for the server and one for the load", file=sys.stderr)
        return 2
    try:
        compare(wanted.cases, wanted.rounds, wanted.seconds)
    except (LoadError, OSError) as error:
        print(f"speed: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
