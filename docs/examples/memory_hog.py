#!/usr/bin/env python3
"""memory_hog: takes more and more memory, and frees what the monitor asks of it.

The demonstration of OSv's shrinker interface, for this one: items of 31337 KiB in a queue; a soft request is
heard and left for later (`--soft ignore`) or met at once (`--soft honour`); a hard one is met at once, from
the head of the queue, until as much is freed as was asked. It never asks whether there is room: it goes on
taking memory, and lives because its shrinker is called in time.

    python3 docs/examples/memory_hog.py --soft ignore --limit 512M --seconds 30

Needs `cacheserver.pressure` installed. README.md beside this file says what it prints, and which limits go
with which rates.
"""

from __future__ import annotations

import contextlib
import mmap
import sys
import threading
import time
from collections import deque
from queue import Empty, SimpleQueue

from limited import MIB, end_on_signals, inside, parser

from cacheserver.pressure import register_shrinker, unregister_shrinker

ITEM = 31337 << 10  # bytes
STEP = MIB  # bytes touched at once: small against the reserve, which has to hold what comes during a reaction
LIMIT_MIN = 128 * MIB  # the interpreter, an item being filled, an item to free, the largest reserve (15 %)
FILLER = b"\xa5" * STEP


class Hog:
    """The queue of items. `shrink` runs on the monitor's thread, everything else on the main thread."""

    def __init__(self, honour_soft: bool) -> None:
        self._honour_soft = honour_soft
        self._items: deque[mmap.mmap] = deque()
        self._lock = threading.Lock()  # around the queue
        self._lines: SimpleQueue[str] = SimpleQueue()
        self._started = time.monotonic()
        self.calls = {"soft": 0, "hard": 0}
        self.allocated = self.freed = 0  # items

    def shrink(self, target: int, hard: bool) -> int:
        """The shrinker: free at least `target` bytes, or leave it for later where that is allowed."""
        kind = "hard" if hard else "soft"
        self.calls[kind] += 1
        if not hard and not self._honour_soft:
            self.say(f"soft pressure: asked {target:,} bytes; left for later. All done.")
            return 0
        self.say(f"{kind} pressure: asked {target:,} bytes")
        start, gone = time.monotonic(), 0
        with self._lock:
            while gone * ITEM < target and self._items:
                self._items.popleft().close()  # unmapped: the host has it back
                gone += 1
            left = len(self._items)
        self.freed += gone
        took = 1000 * (time.monotonic() - start)
        self.say(f"{kind} pressure: freed {gone * ITEM:,} bytes in {took:.1f} ms; {left} items left")
        return gone * ITEM

    def size(self) -> int:
        """Bytes that could be freed: the item being filled is not among them."""
        return len(self._items) * ITEM

    def say(self, line: str) -> None:
        """Note a line for `print_lines`: the monitor's thread must not wait for whoever reads the output."""
        self._lines.put(f"{time.monotonic() - self._started:6.2f} s  {line}")

    def print_lines(self) -> None:
        with contextlib.suppress(Empty):
            while True:
                print(self._lines.get_nowait(), flush=True)

    def grow(self, rate: float) -> None:
        """Take one more item, STEP by STEP, at `rate` bytes a second at most.

        What was lost to waiting is not caught up on: that would be a burst just when the system is busy.
        """
        self.say(f"allocating item {self.allocated + 1}, {len(self._items)} in the queue")
        item = mmap.mmap(-1, ITEM, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        for at in range(0, ITEM, STEP):
            nbytes = min(STEP, ITEM - at)
            item[at : at + nbytes] = FILLER[:nbytes]
            self.print_lines()
            time.sleep(nbytes / rate)
        with self._lock:
            self._items.append(item)
        self.allocated += 1


def run(honour_soft: bool, seconds: float, rate: float) -> int:
    """Be a hog for `seconds`, at `rate` bytes a second."""
    end_on_signals()
    hog = Hog(honour_soft)
    handle = register_shrinker("memory hog", hog.shrink, count=hog.size)
    end = time.monotonic() + seconds
    with contextlib.suppress(KeyboardInterrupt):
        while time.monotonic() < end:
            hog.grow(rate)
    unregister_shrinker(handle)
    hog.say(
        f"the end: {hog.allocated} items allocated, {hog.freed} freed; "
        f"asked {hog.calls['soft']} times softly, {hog.calls['hard']} times hard"
    )
    hog.print_lines()
    return 0


def main() -> int:
    flags = parser("Takes more and more memory, and frees what it is asked for.", limit="512M", rate=32.0)
    flags.add_argument(
        "--soft", choices=("ignore", "honour"), default="ignore", help="what to do with soft requests"
    )
    options = flags.parse_args()
    if 0 < options.limit < LIMIT_MIN:
        flags.error(
            f"--limit below {LIMIT_MIN // MIB}M leaves no room for an item to free beside one to fill"
        )
    if options.limit:
        return inside(options.limit)
    return run(options.soft == "honour", options.seconds, options.rate * MIB)


if __name__ == "__main__":
    sys.exit(main())
