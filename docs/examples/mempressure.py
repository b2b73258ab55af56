#!/usr/bin/env python3
"""mempressure: one thread allocates more than there is, forever; one frees the chunks it is asked for.

The test of compliance of Linux's mempressure proposal, for this interface: if the accounting works, memory is
freed before there is none left, so nobody is killed and hardly anything goes to swap.

    python3 docs/examples/mempressure.py --limit 512M --seconds 30

Exit status 0: it was asked, it freed, and it lives. Needs `cacheserver.pressure` installed.
"""

from __future__ import annotations

import contextlib
import mmap
import select
import sys
import threading
import time
from collections import deque

from limited import MIB, end_on_signals, inside, parser

from cacheserver.pressure import ChunkAccount

CHUNK = MIB  # bytes
FILLER = b"\xa5" * CHUNK
REPORT_SECONDS = 1.0
STOP_SECONDS = 0.2  # how long the freeing thread may take to see that it is to end
LIMIT_MIN = 64 * MIB  # the interpreter takes about 10 MiB of it


class Program:
    """Chunks, oldest first. `allocate` only appends and `free` only takes from the head, each in a thread of
    its own, so the queue needs no lock.
    """

    def __init__(self, account: ChunkAccount, rate: float) -> None:
        self._account = account
        self._rate = rate  # bytes a second
        self._chunks: deque[mmap.mmap] = deque()
        self._stop = threading.Event()
        self.allocated = self.asked = self.freed = 0  # chunks
        self._threads = [threading.Thread(target=self.allocate), threading.Thread(target=self.free)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def works(self) -> bool:
        """Whether both threads are at work."""
        return all(thread.is_alive() for thread in self._threads)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def allocate(self) -> None:
        """Take chunks until told to stop. A delay is not caught up on: that would be a burst just when the
        system is busy.
        """
        while not self._stop.wait(CHUNK / self._rate):
            chunk = mmap.mmap(-1, CHUNK, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            chunk[:] = FILLER
            self._chunks.append(chunk)  # before it is counted: what is asked for is always there
            self._account.add(1)
            self.allocated += 1

    def free(self) -> None:
        """Free what is asked for until told to stop."""
        while not self._stop.is_set():
            select.select([self._account], [], [], STOP_SECONDS)
            wanted = self._account.read()
            self.asked += wanted
            gone = 0
            while gone < wanted and self._chunks:
                self._chunks.popleft().close()  # unmapped: the host has it back
                gone += 1
            self.freed += gone
            self._account.remove(gone)
            self._account.put_back(wanted - gone)

    def report(self, seconds: float) -> str:
        return (
            f"{seconds:4.0f} s  allocated {self.allocated:6d}  asked {self.asked:6d}  freed {self.freed:6d}"
            f"  held {len(self._chunks):5d} chunks of {CHUNK // MIB} MiB"
        )


def swapped() -> str:
    """This process's memory in swap, in the kernel's words."""
    with contextlib.suppress(OSError), open("/proc/self/status") as file:
        for line in file:
            if line.startswith("VmSwap:"):
                return " ".join(line.split()[1:])
    return "unknown"


def run(seconds: float, rate: float) -> int:
    """Allocate for `seconds` at `rate` bytes a second; 0 when that was survived under pressure."""
    end_on_signals()
    with ChunkAccount(CHUNK, name="mempressure") as account:
        program = Program(account, rate)
        program.start()
        start = now = time.monotonic()
        with contextlib.suppress(KeyboardInterrupt):
            while now - start < seconds and program.works():
                time.sleep(min(REPORT_SECONDS, start + seconds - now))
                now = time.monotonic()
                print(program.report(now - start), flush=True)
        working = program.works()
        program.stop()
    if not working:
        print("one of the two threads has failed")
    elif not program.freed:
        print("never asked to free anything: no pressure, no test; allocate longer or set a lower limit")
    else:
        print(f"alive: {program.freed} chunks freed, {swapped()} in swap")
    return 0 if working and program.freed else 1


def main() -> int:
    flags = parser("Allocates more than there is and frees what it is asked for.", limit="512M", rate=150.0)
    options = flags.parse_args()
    if 0 < options.limit < LIMIT_MIN:
        flags.error(f"--limit below {LIMIT_MIN // MIB}M leaves next to nothing beside the interpreter")
    return inside(options.limit) if options.limit else run(options.seconds, options.rate * MIB)


if __name__ == "__main__":
    sys.exit(main())
