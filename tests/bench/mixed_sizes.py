"""Hit ratio of small caches over values of very mixed sizes, beside memcached with the same memory.

Run as `python -m tests.bench.mixed_sizes`. Keys by Zipf's law with exponent 0.99, sizes log-uniform from 16
B to 70 KB and fixed for each key, read-through; the ratio of the second half of the requests. Our store has
the capacity that memcached is given by -m; its index is within it, memcached's hash table is not.

Knows: how to start servers. Owns: the servers it starts, one at a time.
"""

from __future__ import annotations

import argparse

from tests.bench.readthrough import MIB, Cache, InProcess, OverSocket, log_uniform, read_through, zipf
from tests.capped_server import capped_command
from tests.servers import HOST, Server, free_port, reference_command


def ratio(cache: Cache, keys: int, requests: int) -> tuple[float, int]:
    """Return the hit ratio of the second half of a load, and the writes refused in all of it."""
    numbers, size = zipf(keys, 0.99, 1), log_uniform(16, 70_000)
    _, early = read_through(cache, numbers, size, requests // 2)
    hits, late = read_through(cache, numbers, size, requests // 2)
    return hits, early + late


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mib", default="36,64,96,216", help="sizes of cache")
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--requests", type=int, default=600_000)
    given = parser.parse_args()
    print(f"{'MiB':>5} {'memcached':>10} {'cacheserver':>12} {'in process':>11}   refused")
    for mib in map(int, given.mib.split(",")):
        row: list[tuple[float, int]] = []
        for ours in (False, True):
            port = free_port()
            reference = reference_command(port, "-m", str(mib), "-t", "1")
            with Server(capped_command(port, mib * MIB, "-t", "1") if ours else reference, (HOST, port)):
                row.append(ratio(OverSocket(f"{HOST}:{port}"), given.keys, given.requests))
        row.append(ratio(InProcess(mib * MIB), given.keys, given.requests))
        refused = " ".join(str(one[1]) for one in row)
        print(f"{mib:5} {row[0][0]:10.4f} {row[1][0]:12.4f} {row[2][0]:11.4f}   {refused}", flush=True)


if __name__ == "__main__":
    main()
