"""How a full store follows a load whose values change in size, beside a fresh one under the same load.

Measures: hits of the second load, in each of six equal parts of it, of a store that is full of the first load's values, and of an
empty one; and writes refused. Memory is bounded by the store's capacity, so that it has to move its pages between the slab
classes. A load: keys by Zipf's law with exponent 0.99, read-through, over a working set of 2.5 times the memory.

    python -m tests.bench.size_switch                       # in process, 256 MiB, 600,000 operations a load
    python -m tests.bench.size_switch --socket              # the same over a socket
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import closing

from tests.bench.bounded import BoundedServer
from tests.bench.readthrough import MIB, Cache, InProcess, OverSocket, read_through, zipf

OVERHEAD = 48  # bytes of key, header and index, about
PARTS = 6


def constant(size: int) -> Callable[[bytes], int]:
    """Values of one size."""
    return lambda key: size


def mixed(*sizes: int) -> Callable[[bytes], int]:
    """Values of several sizes, fixed for each key."""
    return lambda key: sizes[sum(key) % len(sizes)]


class Load:
    """Keys and values of one kind."""

    def __init__(self, name: str, size: Callable[[bytes], int], mean: float, capacity: int) -> None:
        """`mean`: bytes of an average value; `capacity`: bytes of the store."""
        self.name = name
        self.size = size
        self.prefix = name.encode().replace(b" ", b"-") + b":%d"
        self.keys = int(2.5 * capacity / (mean + OVERHEAD))

    def numbers(self, seed: int) -> Iterator[int]:
        """Return the keys that are asked for."""
        return zipf(self.keys, 0.99, seed)

    def fill(self, cache: Cache) -> int:
        """Write keys until the store is full for sure; return how many were refused."""
        keys = (self.prefix % number for number in range(self.keys * 3 // 5))
        return sum(cache.fill(batch, self.size) for batch in batches(keys, 256))

    def run(self, cache: Cache, operations: int) -> tuple[list[float], int]:
        """Put the load on; return the hit ratio of each part of it, and the writes refused."""
        numbers = self.numbers(7)
        part = operations // PARTS // 64 * 64
        results = [read_through(cache, numbers, self.size, part, self.prefix) for _ in range(PARTS)]
        return [hits / part for hits, _ in results], sum(refused for _, refused in results)


def batches(keys: Iterator[bytes], count: int) -> Iterator[list[bytes]]:
    """Cut an iterator in lists."""
    batch: list[bytes] = []
    for key in keys:
        batch.append(key)
        if len(batch) == count:
            yield batch
            batch = []
    if batch:
        yield batch


def row(name: str, ratios: list[float], refused: int) -> None:
    """Print a line of the table."""
    print(f"{name:44}", *(f"{ratio:7.4f}" for ratio in ratios), f"{refused:8}", flush=True)


def compare(loads: list[Load], open_cache: Callable[[], Cache], operations: int) -> None:
    """Put the loads on one store, each after the other, and the last one on a fresh store."""
    used = open_cache()
    refused = loads[0].fill(used)
    for load in loads[1:-1]:
        refused += load.run(used, operations)[1]
    ratios, more = loads[-1].run(used, operations)
    row(" > ".join(load.name for load in loads), ratios, refused + more)
    row(f"fresh, {loads[-1].name}", *loads[-1].run(open_cache(), operations))


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mib", type=int, default=256, help="memory of the store")
    parser.add_argument("--operations", type=int, default=600_000, help="of a load")
    parser.add_argument("--socket", action="store_true", help="over a socket instead of in process")
    arguments = parser.parse_args()
    capacity = arguments.mib * MIB
    small = Load("100 B", constant(100), 100, capacity)
    large = Load("10 KiB", constant(10240), 10240, capacity)
    several = Load("200 B to 40 KiB", mixed(200, 800, 3000, 10240, 40960), 11040, capacity)
    print(f"{'hit ratio in sixths of the last load':44}", *(f"{n:7}" for n in range(1, PARTS + 1)), f"{'refused':>8}")
    for loads in ([small, large], [large, small], [small, large, small, large], [small, several], [several, small]):
        if arguments.socket:
            with BoundedServer(capacity) as server:
                fresh = server.fresh
                compare(loads, lambda: OverSocket(fresh()), arguments.operations)
        else:
            compare(loads, lambda: InProcess(capacity), arguments.operations)


if __name__ == "__main__":
    main()
