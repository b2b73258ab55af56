"""What an item costs beyond its key and value: the resident size of a server before and after many of them.

Run as `python -m tests.bench.memory_per_item`. Both servers get the same items by the same requests; the
kernel says what they take (VmRSS).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence

from loadtest.replay import at_least
from loadtest.wire import Wire, WireError
from tests.servers import HOST, Server, command, free_port, reference_command

BATCH = 500  # items sent at once
SETTLE_SECONDS = 2.0  # for what a server does in the background: memcached's table grows there
SPARE = 4  # memcached gets so many times the bytes of keys and values, so that it evicts nothing


def fill(wire: Wire, items: int, key_bytes: int, value: memoryview) -> int:
    """Store that many items; how many the server took."""
    stored = 0
    for start in range(0, items, BATCH):
        numbers = range(start, min(items, start + BATCH))
        stored += wire.store([(b"%0*d" % (key_bytes, number), value) for number in numbers], (), False)[0]
    return stored


def overhead(argv: Sequence[str], port: int, plan: argparse.Namespace) -> tuple[int, int, float]:
    """Bytes resident when empty and when full, and bytes an item beyond its key and value."""
    with Server(argv, (HOST, port)) as server, Wire(f"{HOST}:{port}") as wire:
        time.sleep(SETTLE_SECONDS)
        empty = server.rss()
        stored = fill(wire, plan.items, plan.key_bytes, memoryview(b"v" * plan.value_bytes))
        time.sleep(SETTLE_SECONDS)
        full = server.rss()
        held = int(server.stats()["curr_items"])
    if stored != plan.items or held != plan.items:
        raise WireError(f"of {plan.items} items the server holds {held}: it needs more memory")
    return empty, full, (full - empty) / plan.items - plan.key_bytes - plan.value_bytes


def servers(plan: argparse.Namespace) -> Iterator[tuple[str, list[str], int]]:
    """Yield name, command line and port of each server."""
    room = SPARE * plan.items * (plan.key_bytes + plan.value_bytes) // (1 << 20) + 64
    port = free_port()
    yield "memcached", reference_command(port, "-m", str(room)), port
    port = free_port()
    yield "cacheserver", command(port), port


def main(given: Sequence[str] | None = None) -> int:
    """Run as a program."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.memory_per_item", description=__doc__)
    parser.add_argument("--items", type=at_least(1), default=1_000_000, help="(1000000)")
    parser.add_argument("--key-bytes", type=at_least(8), default=20, help="(20)")
    parser.add_argument("--value-bytes", type=at_least(0), default=100, help="(100)")
    plan = parser.parse_args(given)
    try:
        for name, argv, port in servers(plan):
            empty, full, more = overhead(argv, port, plan)
            sizes = f"empty {empty / 1e6:7.1f} MB, full {full / 1e6:7.1f} MB"
            print(f"{name:12} {sizes}, overhead {more:5.1f} B an item")
    except WireError as error:
        print(f"memory_per_item: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
