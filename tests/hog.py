"""A process that takes memory at a steady rate, holds it and ends: a neighbour to make room for.

Run as `python -m tests.hog --mib 128 --seconds 1 --hold 3`; prints "holding" when it has touched all of it,
and then when it began and ended to, on the system's monotonic clock. Needs nothing but the standard library:
`python -c` with this text runs it where the project is not, in a container.

It touches 1 MiB after the other by memset, which is as fast as the kernel hands out pages. What is late is
made up for at that speed: the rate holds on average, not within each millisecond.
"""

from __future__ import annotations

import argparse
import ctypes
import mmap
import sys
import time

MIB = 1 << 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=128, help="memory to take, in MiB")
    parser.add_argument("--seconds", type=float, default=1.0, help="time to take it in; 0: at full speed")
    parser.add_argument("--hold", type=float, default=3.0, help="seconds to hold it")
    parser.add_argument("--wait", action="store_true", help='say "ready", begin after a line on stdin')
    wanted = parser.parse_args()
    # Private, as a heap is: pages of a shared mapping would be counted as page cache.
    memory = mmap.mmap(-1, wanted.mib * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    if wanted.wait:
        print("ready", flush=True)
        if not sys.stdin.readline():
            return 0
    started = time.monotonic()
    for number in range(wanted.mib):
        ctypes.memset(address + number * MIB, 1, MIB)
        early = started + wanted.seconds * (number + 1) / wanted.mib - time.monotonic()
        if early > 0:
            time.sleep(early)
    ended = time.monotonic()
    print(f"holding\n{started:.6f} {ended:.6f}", flush=True)
    time.sleep(wanted.hold)
    return 0


if __name__ == "__main__":
    sys.exit(main())
