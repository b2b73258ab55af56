"""What 10,000 idle connections cost: memory of each, and processor time of others' requests.

From the repository root, on a quiet machine with 2 CPUs, as root (about two minutes):

    python -m tests.bench.idle
    python -m tests.bench.idle --rounds 3 --seconds 1

In each round 50 connections make a load of nine gets to a set of 100 bytes, one request at a time on each;
then 10,000 more are opened and each asks for one value; then the 50 make their load again. The memory is what
of the server's resident size is its own (RssAnon and RssShmem), after the 10,000 have asked less before the
first round's opening, divided by their number; what the kernel holds for its sockets is not in it. Each
server has one thread and the first CPU, the load generator the second; the servers take turns. Ends with 2
when it cannot measure.
"""

from __future__ import annotations

import contextlib
import resource
import socket
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from loadtest.run import LoadError, prefill
from loadtest.workload import Load, Workload
from tests.bench.beside import OURS, against, both, place, program, serving, took
from tests.servers import Server

IDLE = 10_000
FILES = IDLE + 2048  # that a process has open at most
WORKLOAD = Workload(keys=100_000, popularity="uniform")
LOAD = Load(connections=50, warmup=0.5)
SETTLE = 1.0  # seconds until a server has dealt with what was opened or closed
VALUE = b"v" * 100
MEMORY, CPU = "<= 1024", "1"


def own(server: Server) -> int:
    """Bytes of the resident size that are the server's own."""
    lines = Path(f"/proc/{server.pid}/status").read_text().splitlines()
    known = dict(line.split(":", 1) for line in lines)
    return sum(int(known[name].split()[0]) << 10 for name in ("RssAnon", "RssShmem"))


@contextlib.contextmanager
def idle(server: Server, turn: int) -> Iterator[None]:
    """Have 10,000 connections that have asked once; each turn has an address, and so ports, of its own."""
    assert isinstance(server.address, tuple)
    with contextlib.ExitStack() as stack:
        for _ in range(IDLE):
            client = socket.create_connection(server.address, 5.0, (f"127.0.1.{1 + turn % 250}", 0))
            stack.enter_context(client)
            client.sendall(b"get idle\r\n")
            if not client.recv(4096).startswith(b"VALUE idle"):
                raise LoadError("a server does not answer one of many connections")
        yield


def measure(rounds: int, seconds: float) -> None:
    """Print the table."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, max(FILES, most)))
    load = LOAD._replace(seconds=seconds)
    with serving(both(f"-c {FILES}")) as servers:
        before: dict[str, int] = {}
        nbytes: dict[str, list[float]] = {name: [] for name in servers}
        alone: dict[str, list[float]] = {name: [] for name in servers}
        beside: dict[str, list[float]] = {name: [] for name in servers}
        for server in servers.values():
            prefill(place(server), WORKLOAD, Load(connections=4))
            with server.connect() as wire:
                wire.set(b"idle", VALUE)
        for turn in range(rounds):
            for name, server in servers.items():
                alone[name].append(took(server, WORKLOAD, load).cpu)
                time.sleep(SETTLE)
                before.setdefault(name, own(server))
                with idle(server, turn):
                    time.sleep(SETTLE)
                    nbytes[name].append((own(server) - before[name]) / IDLE)
                    beside[name].append(took(server, WORKLOAD, load).cpu)
                time.sleep(SETTLE)
    print(f"medians of {rounds} rounds, {IDLE:,} idle connections\n")
    print("| server | bytes a connection | wanted | CPU us without | with | against without | wanted |")
    print("|---|---|---|---|---|---|---|")
    for name in servers:
        wanted = (MEMORY, CPU) if name == OURS else ("", "")
        print(
            f"| {name} | {statistics.median(nbytes[name]):,.0f} | {wanted[0]} "
            f"| {statistics.median(alone[name]):.2f} | {statistics.median(beside[name]):.2f} "
            f"| {against(beside[name], alone[name])} | {wanted[1]} |"
        )


def main(given: Sequence[str] | None = None) -> int:
    """Run as a program."""
    return program("idle", __doc__, measure, given, rounds=5)


if __name__ == "__main__":
    sys.exit(main())
