"""How a full store follows a load whose values change in size, beside a fresh one under the same load.

Run as `python -m tests.bench.size_switch`, with --socket over a socket. Prints the hit ratio of each sixth
of the last load, on a store that the loads before it have filled and on an empty one, and the writes
refused. Memory is bounded by the store's capacity, so that pages have to move between slab classes. A load:
keys by Zipf's law with exponent 0.99, read-through, over a working set of 2.5 times the memory.

Knows: how to start servers. Owns: the servers it starts, one at a time.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
from collections.abc import Callable, Iterator

from tests.bench.readthrough import MIB, Cache, InProcess, OverSocket, read_through, zipf
from tests.capped_server import capped_command
from tests.servers import HOST, Server, free_port

OVERHEAD = 48  # bytes of key, header and index, about
PARTS = 6
Opened = Callable[[], contextlib.AbstractContextManager[Cache]]


class Load:
    """Keys, and values of the given sizes in turn."""

    def __init__(self, name: str, capacity: int, *sizes: int) -> None:
        """Size the working set for a store of `capacity` bytes."""
        self.name = name
        self.prefix = name.encode().replace(b" ", b"-") + b":"
        self.sizes = sizes
        self.keys = int(2.5 * capacity / (sum(sizes) / len(sizes) + OVERHEAD))

    def size(self, key: bytes) -> int:
        """Bytes of a key's value."""
        return self.sizes[sum(key) % len(self.sizes)]

    def fill(self, cache: Cache) -> int:
        """Write more than the store holds; return how many were refused."""
        keys = (self.prefix + b"%d" % number for number in range(self.keys * 3 // 5))
        refused = 0
        while batch := list(itertools.islice(keys, 256)):
            refused += cache.fill(batch, self.size)
        return refused

    def run(self, cache: Cache, operations: int) -> tuple[list[float], int]:
        """Put the load on; return the hit ratio of each part of it, and the writes refused."""
        numbers, size = zipf(self.keys, 0.99, 7), self.size
        results = [read_through(cache, numbers, size, operations // PARTS, self.prefix) for _ in range(PARTS)]
        return [hits for hits, _ in results], sum(refused for _, refused in results)


def row(name: str, ratios: list[float], refused: int) -> None:
    """Print a line of the table."""
    print(f"{name:36}", *(f"{ratio:7.4f}" for ratio in ratios), f"{refused:8}", flush=True)


def compare(loads: list[Load], opened: Opened, operations: int) -> None:
    """Put the loads on one store, each after the other, and the last one on a fresh store."""
    with opened() as cache:
        refused = loads[0].fill(cache)
        for load in loads[1:-1]:
            refused += load.run(cache, operations)[1]
        ratios, more = loads[-1].run(cache, operations)
    row(" > ".join(load.name for load in loads), ratios, refused + more)
    with opened() as cache:
        row(f"fresh, {loads[-1].name}", *loads[-1].run(cache, operations))


@contextlib.contextmanager
def served(capacity: int) -> Iterator[Cache]:
    """Give a cache in a server of its own."""
    port = free_port()
    with Server(capped_command(port, capacity, "-t", "1"), (HOST, port)):
        yield OverSocket(f"{HOST}:{port}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mib", type=int, default=256, help="memory of the store")
    parser.add_argument("--operations", type=int, default=600_000, help="of a load")
    parser.add_argument("--socket", action="store_true", help="over a socket instead of in process")
    given = parser.parse_args()
    capacity = given.mib * MIB

    def opened() -> contextlib.AbstractContextManager[Cache]:
        return served(capacity) if given.socket else contextlib.nullcontext(InProcess(capacity))

    small, large = Load("100 B", capacity, 100), Load("10 KiB", capacity, 10240)
    several = Load("200 B to 40 KiB", capacity, 200, 800, 3000, 10240, 40960)
    there, back = [small, large], [large, small]
    print(f"{'hit ratio in sixths of the last load':36}", *(f"{n:7}" for n in range(PARTS)), " refused")
    for loads in (there, back, there + there, [small, several], [several, small]):
        compare(loads, opened, given.operations)


if __name__ == "__main__":
    main()
