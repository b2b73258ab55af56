"""How many bytes of keys and values a byte of resident memory holds, beside memcached, over a production size distribution.

Stores the same items in each server, none of which has to evict, and reads VmRSS before and after. Value sizes: those of
`sizes.json` (CacheBench's format: ranges by their lower ends, uniform within a range, with their frequencies). Keys: 16 to
250 bytes, uniform; the configuration that comes with the sizes says 16 to 255, but 250 is the longest that the protocol
takes. `resident` is the whole process, its program included; `grown` is what the items have added to it.

    python -m tests.bench.density SIZES_JSON                     # 2,000,000 items, about 1 GiB in each server
    python -m tests.bench.density --fixed 20 100 --items 1000000
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path

from tests.servers import HOST, command, free_port, reference_command

BATCH = 512
KEYS = (16, 250)
VALUE = b"v" * (1 << 20)

Sizes = Callable[[random.Random, int], Iterator[tuple[int, int]]]


def resident(pid: int) -> int:
    """Return the bytes of a process that are in memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))


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


def fill(port: int, sizes: Sizes, count: int) -> int:
    """Store `count` items; return the bytes of their keys and values."""
    rng = random.Random(1)
    stored = 0
    with socket.create_connection((HOST, port), timeout=60) as connection:
        replies = connection.makefile("rb")
        for first in range(0, count, BATCH):
            lines = []
            for i, (nkey, nvalue) in enumerate(sizes(rng, min(BATCH, count - first)), first):
                key = b"%0*d" % (nkey, i)
                lines.append(b"set %b 0 0 %d\r\n%b\r\n" % (key, nvalue, VALUE[:nvalue]))
                stored += nkey + nvalue
            connection.sendall(b"".join(lines))
            for _ in lines:
                if (line := replies.readline()) != b"STORED\r\n":
                    raise SystemExit(f"a server does not store an item: {line!r}; give it more memory")
    return stored


def evictions(port: int) -> int:
    """Ask a server how many items it has evicted."""
    with socket.create_connection((HOST, port), timeout=60) as connection:
        connection.sendall(b"stats\r\n")
        for line in connection.makefile("rb"):
            if line.startswith(b"STAT evictions "):
                return int(line.split()[2])
            if line == b"END\r\n":
                break
    return 0


def measure(name: str, argv: list[str], port: int, sizes: Sizes, count: int) -> float:
    """Print a row of the table; return stored by resident bytes."""
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        wait_for(port)
        before = resident(process.pid)
        stored = fill(port, sizes, count)
        time.sleep(3)  # the index grows in steps after the last item, too
        after = resident(process.pid)
        lost = evictions(port)
    finally:
        process.terminate()
        process.wait()
    overhead = (after - before - stored) / count
    print(
        f"{name:12} {stored / 1e6:11.1f} {after / 1e6:13.1f} {stored / after:8.4f} {(after - before) / 1e6:10.1f} "
        f"{stored / (after - before):8.4f} {overhead:8.1f} {lost:8}",
        flush=True,
    )
    return stored / after


def wait_for(port: int) -> None:
    """Wait until somebody listens."""
    for _ in range(200):
        try:
            socket.create_connection((HOST, port)).close()
        except OSError:
            time.sleep(0.05)
        else:
            time.sleep(0.5)
            return
    raise SystemExit("a server does not start: see its error above")


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sizes", nargs="?", type=Path, help="a sizes.json of CacheBench")
    parser.add_argument("--fixed", nargs=2, type=int, metavar=("KEY", "VALUE"), help="bytes, instead of a distribution")
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
