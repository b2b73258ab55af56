"""How many bytes of keys and values a byte of resident memory holds, beside memcached, over production sizes.

Stores the same items in each server, none of which has to evict, and reads the resident size before and
after. Values: `sizes.json` in CacheBench's format (ranges by their lower ends, uniform within a range, with
their frequencies). Keys: 16 to 250 bytes, uniform; the configuration that comes with Meta's sizes says 16
to 255, but 250 is the longest that the protocol takes. `resident` is the whole process, its program
included; `grown` is what the items have added to it.

Run as `python -m tests.bench.density <sizes.json>` (2,000,000 items, about 1 GiB in each server), or with
`--fixed 20 100` instead of the file for items of one size.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path

from loadtest.wire import Wire
from tests.servers import HOST, Server, command, free_port, reference_command

BATCH = 512
KEYS = (16, 250)
VALUE = memoryview(b"v" * (1 << 20))
SETTLE_SECONDS = 2.0

Sizes = Callable[[random.Random, int], Iterator[tuple[int, int]]]


def of_distribution(path: Path) -> Sizes:
    """Sizes of key and value as production has them."""
    found = json.loads(path.read_text())
    low: list[int] = found["valSizeRange"]
    weights = list(accumulate(found["valSizeRangeProbability"]))

    def sizes(rng: random.Random, count: int) -> Iterator[tuple[int, int]]:
        for i in rng.choices(range(len(low)), cum_weights=weights, k=count):
            high = low[i + 1] - 1 if i + 1 < len(low) else low[i]
            yield rng.randint(*KEYS), rng.randint(low[i], high)

    return sizes


def fixed(key: int, value: int) -> Sizes:
    """Keys of one size, values of one size."""
    return lambda rng, count: iter([(key, value)] * count)


def fill(wire: Wire, sizes: Sizes, count: int) -> int:
    """Store `count` items; return the bytes of their keys and values."""
    rng = random.Random(1)
    stored = 0
    for first in range(0, count, BATCH):
        batch = list(sizes(rng, min(BATCH, count - first)))
        items = [(b"%0*d" % (nkey, i), VALUE[:nvalue]) for i, (nkey, nvalue) in enumerate(batch, first)]
        if wire.store(items, (), False)[0] < len(batch):
            raise SystemExit("a server does not store an item: give it more memory")
        stored += sum(map(sum, batch))
    return stored


def evictions(wire: Wire) -> int:
    """Ask a server how many items it has evicted."""
    wire.send([b"stats\r\n"])
    found = 0
    while (line := wire.line()) != b"END":
        if line.startswith(b"STAT evictions "):
            found = int(line.split()[2])
    return found


def measure(name: str, argv: list[str], port: int, sizes: Sizes, count: int) -> float:
    """Print a row of the table; return stored by resident bytes."""
    with Server(argv, (HOST, port)) as server, Wire(f"{HOST}:{port}") as wire:
        time.sleep(SETTLE_SECONDS)
        before = server.rss()
        stored = fill(wire, sizes, count)
        time.sleep(SETTLE_SECONDS)  # the index grows in steps after the last item, too
        after = server.rss()
        lost = evictions(wire)
    grown = after - before
    print(
        f"{name:12} {stored / 1e6:11.1f} {after / 1e6:13.1f} {stored / after:8.4f} {grown / 1e6:10.1f} "
        f"{stored / grown:8.4f} {(grown - stored) / count:8.1f} {lost:8}",
        flush=True,
    )
    return stored / after


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sizes", nargs="?", type=Path, help="a sizes.json of CacheBench")
    parser.add_argument("--fixed", nargs=2, type=int, metavar=("KEY", "VALUE"), help="bytes of each")
    parser.add_argument("--items", type=int, default=2_000_000)
    parser.add_argument("--threads", default="4", help="worker threads of each server")
    arguments = parser.parse_args()
    if bool(arguments.sizes) == bool(arguments.fixed):
        parser.error("give either a file of sizes or --fixed KEY VALUE")
    sizes = of_distribution(arguments.sizes) if arguments.sizes else fixed(*arguments.fixed)
    print(
        f"{'server':12} {'stored MB':>11} {'resident MB':>13} {'ratio':>8} {'grown MB':>10} {'ratio':>8} "
        f"{'B/item':>8} {'evicted':>8}"
    )
    port = free_port()
    ours = measure("cacheserver", command(port, "-t", arguments.threads), port, sizes, arguments.items)
    port = free_port()
    argv = reference_command(port, "-t", arguments.threads, "-m", "16384")
    theirs = measure("memcached", argv, port, sizes, arguments.items)
    print(f"cacheserver holds {ours / theirs:.3f} times what memcached holds in the same resident memory")


if __name__ == "__main__":
    main()
