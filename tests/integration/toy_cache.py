"""A cache of mmap'd pages under the monitor, for tests inside a real memory group.

Fills what it is granted, page by page, as fast as it can, for ever; releases with MADV_DONTNEED. Prints one
line of JSON on each line it reads from stdin.
"""

from __future__ import annotations

import json
import mmap
import os
import select
import sys
import threading
import time
from collections import deque
from dataclasses import asdict

from cacheserver.pressure import Monitor

PAGE = 1 << 20
PAGES = 4096


class ToyCache:
    """FIFO of touched pages with its own lock."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, PAGES * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)
        self.memory.madvise(mmap.MADV_NOHUGEPAGE)
        self.free = list(range(PAGES))
        self.used: deque[int] = deque()
        self.allowance = self.untouched = 0
        self.slowest = 0.0
        self.lock = threading.Lock()

    def grant(self, nbytes: int) -> None:
        with self.lock:
            self.allowance = nbytes

    def ledger(self) -> tuple[int, int]:
        return len(self.used) * PAGE, self.untouched

    def count(self) -> int:
        return len(self.used) * PAGE

    def shrink(self, target: int, hard: bool) -> int:
        start, freed = time.monotonic(), 0
        while freed < target:
            with self.lock:
                if not self.used:
                    break
                page = self.used.popleft()
                self.memory.madvise(mmap.MADV_DONTNEED, page * PAGE, PAGE)
                self.free.append(page)
            freed += PAGE
        if hard:
            self.slowest = max(self.slowest, time.monotonic() - start)
        return freed

    def grow(self) -> bool:
        with self.lock:
            if self.allowance < PAGE or not self.free:
                return False
            self.allowance -= PAGE
            self.untouched += PAGE
            page = self.free.pop()
        for at in range(page * PAGE, (page + 1) * PAGE, 4096):
            self.memory[at] = 1
        with self.lock:
            self.used.append(page)
            self.untouched -= PAGE
        return True


def main() -> None:
    cache, monitor = ToyCache(), Monitor()
    monitor.register_shrinker("toy", cache.shrink, count=cache.count, grant=cache.grant, ledger=cache.ledger)
    monitor.start()
    while True:
        if not cache.grow():
            os.write(monitor.wake_fd, (1).to_bytes(8, sys.byteorder))
            wait = 0.002
        else:
            wait = 0.0
        if select.select([sys.stdin], [], [], wait)[0]:
            if not sys.stdin.readline():
                break
            used = time.clock_gettime(time.CLOCK_PROCESS_CPUTIME_ID)
            about = {"own": cache.count(), "slowest_hard": cache.slowest, "cpu": used}
            print(json.dumps(asdict(monitor.status()) | about), flush=True)
    monitor.stop()


if __name__ == "__main__":
    main()
