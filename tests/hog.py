"""A process that takes memory at a steady rate, holds it and ends: a neighbour to make room for.

Run as `python -m tests.hog --mib 128 --seconds 1 --hold 3`; prints "holding" when it has touched all of it.
"""

from __future__ import annotations

import argparse
import mmap
import sys
import time

MIB = 1 << 20
PAGE = mmap.PAGESIZE


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=128, help="memory to take, in MiB")
    parser.add_argument("--seconds", type=float, default=1.0, help="time to take it in")
    parser.add_argument("--hold", type=float, default=3.0, help="seconds to hold it")
    wanted = parser.parse_args()
    memory = mmap.mmap(-1, wanted.mib * MIB)
    started = time.monotonic()
    for number in range(wanted.mib):
        for at in range(number * MIB, (number + 1) * MIB, PAGE):
            memory[at] = 1
        due = started + wanted.seconds * (number + 1) / wanted.mib
        time.sleep(max(0.0, due - time.monotonic()))
    print("holding", flush=True)
    time.sleep(wanted.hold)
    return 0


if __name__ == "__main__":
    sys.exit(main())
