"""The process that takes memory beside a server: it goes to the size it is told, ends with who started it.

Run by neighbour as a file of its own (python -S -E hog.py MOST SECONDS [PROCS]), so it knows the standard
library only and stays small. Must not know: plans, servers, loads.

It joins the cgroup whose cgroup.procs is PROCS, says "ready" or "no: REASON" and reads lines "SIZE RATE"
(bytes; bytes a second, 0: as fast as the kernel hands out pages). A line that comes while it still grows
takes the place of the one before. Never more than MOST bytes, never longer than SECONDS. It ends when stdin
ends, and the kernel kills it with the thread that started it.
"""

import ctypes
import mmap
import os
import select
import signal
import sys
import time

CHUNK = 1 << 20  # bytes touched between two looks at stdin
PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Let the kernel kill this process when its parent ends (Linux; elsewhere the end of stdin has to do)."""
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    except (AttributeError, OSError):
        return


class Memory:
    """Private memory that is touched up to `held` bytes and given back behind."""

    def __init__(self, most: int) -> None:
        self._map = mmap.mmap(-1, most, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        self.held = 0

    def grow(self, nbytes: int) -> None:
        """Touch that many bytes more."""
        ctypes.memset(self._address + self.held, 1, nbytes)
        self.held += nbytes

    def fall(self, size: int) -> None:
        """Give back what is above `size` bytes."""
        first = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        if first < self.held:
            self._map.madvise(mmap.MADV_DONTNEED, first, self.held - first)
        self.held = size


class Orders:
    """Lines from stdin; the newest counts."""

    def __init__(self) -> None:
        self.ended = False
        self._rest = b""

    def newest(self, wait: float) -> tuple[int, float] | None:
        """(size, rate) of the newest line that comes within `wait` seconds."""
        if not select.select([0], [], [], max(0.0, wait))[0]:
            return None
        data = os.read(0, 1 << 16)
        self.ended = not data
        *lines, self._rest = (self._rest + data).split(b"\n")
        if not lines:
            return None
        size, rate = lines[-1].split()
        return int(size), float(rate)


def follow(memory: Memory, most: int, until: float) -> None:
    """Follow the orders until there are no more."""
    orders = Orders()
    target = 0
    rate = 0.0
    begun, base = 0.0, 0
    while not orders.ended and time.monotonic() < until:
        wait = until - time.monotonic()
        if memory.held < target:
            due = begun + (memory.held + CHUNK - base) / rate if rate else 0.0
            wait = due - time.monotonic()
        order = orders.newest(wait)
        if order is not None:
            target, rate = min(most, order[0]), order[1]
            memory.fall(min(memory.held, target))
            begun, base = time.monotonic(), memory.held
        elif memory.held < target and (
            not rate or time.monotonic() >= begun + (memory.held + CHUNK - base) / rate
        ):
            memory.grow(min(CHUNK, target - memory.held))


def main(given: list[str]) -> int:
    end_with_parent()
    most, seconds = int(given[0]), float(given[1])
    if len(given) > 2:
        try:
            with open(given[2], "w") as file:
                file.write(str(os.getpid()))
        except OSError as error:
            print(f"no: it cannot join the server's memory cgroup ({error}): root may", flush=True)
            return 1
    try:
        memory = Memory(most)
    except (OSError, OverflowError) as error:
        print(f"no: it cannot have {most} bytes ({error}): say a smaller hog", flush=True)
        return 1
    print("ready", flush=True)
    follow(memory, most, time.monotonic() + seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
