"""Twenty million items, of which a random nine in ten are deleted: what the process holds, second by second.

From the repository root (about three minutes and 4 GiB):

    python -m tests.bench.delete_most [--items 20000000] [--value 100] [--share 0.9] [--threads 2]

A served process, filled and emptied over one connection; after the last delete it is left alone, and the
kernel is asked for its resident size. Wanted: a fall by at least 80 % of what the items took, within 10 s.
"""

from __future__ import annotations

import argparse
import random
import sys
import time

from tests.servers import HOST, Server, command, free_port
from tests.wire import Wire

MIB = 1 << 20
BATCH = 1000
SECONDS = 12


def send_all(wire: Wire, lines: list[bytes]) -> None:
    """Send requests without replies, and wait until the last is done."""
    for begin in range(0, len(lines), BATCH):
        wire.send(b"".join(lines[begin : begin + BATCH]))
    wire.send(b"version\r\n")
    wire.read_line()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=20_000_000, help="items stored")
    parser.add_argument("--value", type=int, default=100, help="bytes of each value")
    parser.add_argument("--share", type=float, default=0.9, help="share of them that is deleted")
    parser.add_argument("--threads", type=int, default=2, help="workers of the server")
    wanted = parser.parse_args()
    dice = random.Random(1)
    body = b" 0 0 %d noreply\r\n%s\r\n" % (wanted.value, b"v" * wanted.value)
    port = free_port()
    with (
        Server(command(port, "-t", str(wanted.threads)), (HOST, port)) as server,
        Wire((HOST, port), timeout=120.0) as wire,
    ):
        empty = server.rss()
        for begin in range(0, wanted.items, 100_000):
            numbers = range(begin, min(begin + 100_000, wanted.items))
            send_all(wire, [b"set key:%016d" % number + body for number in numbers])
        full = server.rss()
        print(f"{wire.stats()['curr_items']} items took {(full - empty) / MIB:.0f} MiB\n")
        for begin in range(0, wanted.items, 100_000):
            numbers = range(begin, min(begin + 100_000, wanted.items))
            gone = [number for number in numbers if dice.random() < wanted.share]
            send_all(wire, [b"delete key:%016d noreply\r\n" % number for number in gone])
        begun, used = time.monotonic(), server.cpu_seconds()
        left = int(wire.stats()["curr_items"])
        print(f"{left} items are left\n")
        print("| seconds after the last delete | MiB above the empty server | fallen by | CPU s |")
        print("|---|---|---|---|")
        for second in range(SECONDS + 1):
            time.sleep(max(0.0, begun + second - time.monotonic()))
            held = server.rss() - empty
            fallen = 100 * (1 - held / (full - empty))
            spent = server.cpu_seconds() - used
            print(f"| {second} | {held / MIB:.0f} | {fallen:.1f} % | {spent:.2f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
