"""What the pressure monitor costs beside a full cache: its thread's processor time, at rest and under load.

From the repository root, as root, on a quiet machine with 2 CPUs and 2 GiB to spare (about three minutes):

    python -m tests.bench.monitor_cost
    python -m tests.bench.monitor_cost --seconds 5 --limits 256

For each limit a served process is put into a memory cgroup and filled with 1000-byte values until it has
evicted. Then two periods of the same length: nobody asks for anything; and a client asks for keys, of which a
tenth is not there, and sets some, seven to one, 2000 a second at most. The processor time is the kernel's:
that of the monitor's thread, which is the one with a priority of -10, and that of the whole process.
"""

from __future__ import annotations

import argparse
import functools
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from cacheserver.pressure.runner import NICE
from tests.limits import memory_group
from tests.servers import HOST, Server, command, free_port

MIB = 1 << 20
VALUE = b"v" * 1000
BATCH = 16  # requests written at once
PACE = BATCH / 2000.0  # seconds between two batches
SETTLE = 3.0  # seconds after the filling until the monitor has come to rest


def nanoseconds(pid: int) -> Iterator[tuple[int, int]]:
    """Yield (priority, nanoseconds on a processor) of each thread of a process."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        nice = int((task / "stat").read_text().rpartition(")")[2].split()[16])
        yield nice, int((task / "schedstat").read_text().split()[0])


def used(pid: int) -> tuple[int, int]:
    """Return the nanoseconds that the monitor's thread and the whole process have had so far."""
    threads = list(nanoseconds(pid))
    return sum(ns for nice, ns in threads if nice == NICE), sum(ns for _, ns in threads)


def fill(server: Server) -> tuple[int, int]:
    """Write until items are evicted, and half as many again; returns the first key's number and the next
    one's.
    """
    number, most = 0, 0
    with server.connect() as wire:
        while not most or number < most:
            keys = range(number, number + 1000)
            wire.send(b"".join(b"set %d 0 0 %d noreply\r\n%b\r\n" % (key, len(VALUE), VALUE) for key in keys))
            wire.ask(b"version\r\n")  # answered when all of them are stored
            number = keys.stop
            if not most and int(wire.stats()["evictions"]):
                most = number * 3 // 2
        return number - int(wire.stats()["curr_items"]), number


def load(server: Server, first: int, following: int, seconds: float) -> None:
    """Get and set at a steady pace."""
    dice = random.Random(1)
    keys = range(following - (following - first) * 10 // 9, following)
    with server.connect() as wire:
        due = time.monotonic()
        end = due + seconds
        while time.monotonic() < end:
            wire.get_many(b"%d" % dice.choice(keys) for _ in range(BATCH * 9 // 10))
            for _ in range(BATCH - BATCH * 9 // 10):
                wire.set(b"%d" % dice.choice(keys), VALUE)
            due = max(due + PACE, time.monotonic())  # who is late does not catch up
            time.sleep(max(0.0, due - time.monotonic()))


def requests(server: Server) -> int:
    """Return how often the store has been asked for memory."""
    now = server.stats()
    return int(now["pressure_shrinks_soft"]) + int(now["pressure_shrinks_hard"])


def measured(server: Server, seconds: float, what: Callable[[float], None]) -> str:
    """Return both shares, in percent, and the requests to give back while `what(seconds)` runs."""
    before, asked, started = used(server.pid), requests(server), time.monotonic()
    what(seconds)
    past = time.monotonic() - started
    shares = [100e-9 * (now - then) / past for now, then in zip(used(server.pid), before, strict=True)]
    return f"{shares[0]:.2f} % | {shares[1]:.2f} % | {requests(server) - asked}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=30.0, help="length of a period")
    parser.add_argument("--limits", type=int, nargs="+", default=[256, 1024], help="of the groups, in MiB")
    wanted = parser.parse_args()
    print(
        "| limit | load | monitor's thread | whole process | requests to give back |\n|---|---|---|---|---|"
    )
    for limit in wanted.limits:
        port = free_port()
        with (
            memory_group(limit * MIB) as group,
            Server(command(port), (HOST, port), group=group.path) as server,
        ):
            first, following = fill(server)
            time.sleep(SETTLE)
            print(f"| {limit} MiB | at rest | {measured(server, wanted.seconds, time.sleep)} |", flush=True)
            loaded = measured(server, wanted.seconds, functools.partial(load, server, first, following))
            print(f"| {limit} MiB | 2000 requests/s | {loaded} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
