"""Servers side by side: what the comparisons over sockets share, for programs and not for tests.

Knows: servers by their command lines, CPUs, the load generator. Must not know: what is compared.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from loadtest.replay import at_least
from loadtest.results import Histogram
from loadtest.run import LoadError, run
from loadtest.workload import Load, Workload
from tests.servers import HOST, Server, command, free_port, reference_command

OURS, REFERENCE = "cacheserver", "memcached"
PROCESSORS = sorted(os.sched_getaffinity(0))

Start = Callable[[int], list[str]]  # the command line of a server on a port


class Took(NamedTuple):
    """One run: requests a second, microseconds of a processor a request, latencies in microseconds."""

    rate: float
    cpu: float
    latency: Histogram


def both(flags: str = "", *, memory: int = 1024) -> dict[str, Start]:
    """Both servers with one thread each and the same flags; memory: MiB, for the one that must be told."""
    words = ["-t", "1", *flags.split()]
    return {
        REFERENCE: lambda port: reference_command(port, *words, "-m", str(memory)),
        OURS: lambda port: command(port, *words),
    }


@contextlib.contextmanager
def serving(starts: Mapping[str, Start], *, apart: bool = True) -> Iterator[dict[str, Server]]:
    """Run the servers. `apart`: on the first CPU, and this process with its load generators on the second."""
    with contextlib.ExitStack() as stack:
        stack.callback(os.sched_setaffinity, 0, os.sched_getaffinity(0))
        if apart:
            os.sched_setaffinity(0, PROCESSORS[:1])
        servers = {}
        for name, start in starts.items():
            port = free_port()
            servers[name] = stack.enter_context(Server(start(port), (HOST, port)))
        if apart:
            os.sched_setaffinity(0, PROCESSORS[1:2])
        yield servers


def place(server: Server) -> str:
    """Where a server listens, in the words of the load generator."""
    assert isinstance(server.address, tuple)
    return f"{server.address[0]}:{server.address[1]}"


def took(server: Server, workload: Workload, load: Load) -> Took:
    """Load one server. Raises LoadError where any request failed: its figures would be of something else."""
    before = server.cpu_seconds()
    result = run(place(server), workload, load)
    used = server.cpu_seconds() - before
    if not result.complete or result.problem:
        raise LoadError(result.problem)
    every = sum(second.counters.requests for second in result.seconds)
    return Took(result.total.requests / load.seconds, 1e6 * used / every, result.latency)


def against(mine: Sequence[float], theirs: Sequence[float]) -> str:
    """The median of the ratios of the rounds, and the least and the greatest of them."""
    ratios = [one / other for one, other in zip(mine, theirs, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def program(
    name: str,
    doc: str | None,
    measure: Callable[[int, float], None],
    given: Sequence[str] | None,
    rounds: int,
) -> int:
    """Run a comparison as a program with the options that all of them have; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog=f"python -m tests.bench.{name}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=at_least(1), default=rounds, help=f"of all runs ({rounds})")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each run (2)")
    plan = parser.parse_args(given)
    if len(PROCESSORS) < 2:
        print(f"{name}: this needs a CPU for the server and one for the load", file=sys.stderr)
        return 2
    try:
        measure(plan.rounds, plan.seconds)
    except (LoadError, OSError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    return 0
