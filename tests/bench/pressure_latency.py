"""What clients feel while a neighbour takes memory from the server, and while one takes it elsewhere.

From the repository root, as root, on a machine with 2 CPUs and 3 GiB to spare (about three minutes):

    python -m tests.bench.pressure_latency [--rounds 5] [--limit 1024] [--mib 256]

The server has filled its group with values of one size. Two clients in a closed loop get random ones of the
newest keys, every tenth request is a set of a new key. A hog takes 256 MiB evenly within a second: in the
server's group ("pressure": the server must give as much back), or in a group of its own ("beside": the same
work for processors and kernel, and nothing to give back). Rounds of both kinds alternate. Of a round count
the requests that ended while the hog grew; the figures are medians over the rounds. Wanted: a p99 under
pressure of 2 times the one beside at most.

*given back* is what the server's resident size lost. Ends with 1 when a process was killed.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import random
import signal
import statistics
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import NamedTuple

from tests.bench.pressure_scene import MIB, TOLD, Failed, Scene, hog_in, key, machine, percentile, run, scene
from tests.limits import limited_group
from tests.servers import HOST
from tests.wire import Address, Wire

VALUES = (100, 4096)
CLIENTS = 2
SET_EVERY = 10
SECONDS = 1.0  # the hog grows for
LEAD = 0.3  # seconds the clients run before it does
ROOM = 64 * MIB  # of the hog's own group, beside what it takes


class Round(NamedTuple):
    """What the clients saw, in seconds, and what the server gave back, in bytes."""

    p50: float
    p99: float
    longest: float
    requests: int
    given_back: int


def client(address: Address, value: int, seed: int, orders: Connection) -> None:
    """Send one request after the other for as long as each order says; report (clock, seconds) of each."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    dice = random.Random(seed)
    body = b" 0 0 %d\r\n" % value + b"v" * value + b"\r\n"
    fresh = 0
    with contextlib.suppress(EOFError, OSError), Wire(address, timeout=TOLD) as wire:
        while True:
            begin, end, seconds = orders.recv()
            took: list[tuple[float, float]] = []
            now = time.monotonic()
            stop = now + seconds
            while now < stop:
                if len(took) % SET_EVERY == SET_EVERY - 1:
                    fresh += 1
                    wire.send(b"set new%02d%015d" % (seed, fresh) + body)
                    wire.read_line()
                else:
                    wire.get(key(value, dice.randrange(begin, end)))
                last, now = now, time.monotonic()
                took.append((now, now - last))
            orders.send(took)


class Clients:
    """The clients' processes. They end with the `with` block."""

    def __init__(self, address: Address, value: int) -> None:
        self._ends = [multiprocessing.Pipe() for _ in range(CLIENTS)]
        self._processes = [
            multiprocessing.Process(target=client, args=(address, value, seed, end[1]), daemon=True)
            for seed, end in enumerate(self._ends)
        ]
        for process in self._processes:
            process.start()

    def __enter__(self) -> Clients:
        return self

    def __exit__(self, *_ignored: object) -> None:
        for process in self._processes:
            process.kill()
            process.join()

    def start(self, begin: int, end: int, seconds: float) -> None:
        """Have them get keys numbered `begin` to `end` for so long."""
        for mine, _ in self._ends:
            mine.send((begin, end, seconds))

    def results(self) -> Iterator[tuple[float, float]]:
        """(when a request ended, how long it took) of all requests."""
        for mine, _ in self._ends:
            if not mine.poll(TOLD):
                raise Failed("a client has lost its connection to the server")
            yield from mine.recv()


def one(place: Scene, clients: Clients, mib: int, pressure: bool) -> Round:
    """Fill, stop writing, let the clients and the hog run."""
    place.writer.go_on()
    place.until_full()
    place.writer.pause()
    newest = place.writer.stored
    span = max(1, min(newest, place.number("curr_items") // 2))
    own = contextlib.nullcontext(place.group) if pressure else limited_group(mib * MIB + ROOM)
    with own as group, hog_in(group.path, mib, mib * MIB / SECONDS, 0.0) as hog:
        full = place.server.rss()
        clients.start(newest - span, newest, LEAD + 2 * SECONDS)
        time.sleep(LEAD)
        hog.go()
        taken = hog.taken()
        lowest = place.server.rss() if place.server.running() else 0
        results = list(clients.results())
    if taken is None:
        raise Failed("the hog was killed")
    took = [seconds for at, seconds in results if taken[0] <= at <= taken[1]]
    return Round(percentile(took, 0.5), percentile(took, 0.99), max(took), len(took), max(0, full - lowest))


def rows(value: int, limit: int, mib: int, rounds: int) -> Iterator[str]:
    with scene(limit * MIB, value) as place, Clients((HOST, _port(place)), value) as clients:
        done: dict[str, list[Round]] = {"beside": [], "pressure": []}
        for turn in range(2 * rounds):
            name = "pressure" if turn % 2 else "beside"
            done[name].append(one(place, clients, mib, name == "pressure"))
        kills = place.group.kills()
    p99 = {}
    for name, each in done.items():
        p50, p99[name], longest, requests, given_back = (
            statistics.median(field) for field in zip(*each, strict=True)
        )
        yield (
            f"| {value} B | {name} | {requests / SECONDS:.0f} | {1e6 * p50:.0f} | {1e6 * p99[name]:.0f} |"
            f" {1e6 * longest:.0f} | {given_back / MIB:.0f} | {kills} |"
        )
    yield f"| {value} B | ratio | | | {p99['pressure'] / p99['beside']:.2f} | | | {kills} |"


def _port(place: Scene) -> int:
    address = place.server.address
    assert isinstance(address, tuple)
    return address[1]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="of each kind")
    parser.add_argument("--limit", type=int, default=1024, help="of the group, in MiB")
    parser.add_argument("--mib", type=int, default=256, help="what the hog takes within a second")
    wanted = parser.parse_args()
    print(f"a hog of {wanted.mib} MiB beside a group of {wanted.limit} MiB; {machine()}\n")
    print("| values | hog | requests/s | p50 us | p99 us | longest us | given back MiB | kills |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    killed = False
    for value in VALUES:
        for row in rows(value, wanted.limit, wanted.mib, wanted.rounds):
            killed = killed or not row.endswith(" 0 |")
            print(row, flush=True)
    return int(killed)


if __name__ == "__main__":
    sys.exit(run(main))
