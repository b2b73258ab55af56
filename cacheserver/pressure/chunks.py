"""Chunk accounting: a program counts the chunks it could free, and is asked for a number of them.

    account = ChunkAccount(chunk_size=1 << 20)
    account.add(1)                        # for each chunk taken
    select.select([account], [], [])      # or loop.add_reader(account, on_request), poll, epoll ...
    for _ in range(account.read()):
        free_a_chunk()
        account.remove(1)

After the shrinker of the mempressure cgroup that was proposed for Linux in 2012: a request for 8 KiB means
little to a program that takes and frees 10 MiB at a time, so it names its unit and gets a number of units.
What is asked for leaves the count at once; what the program then cannot free it puts back.

Knows: shrinkers, one descriptor. Must not know: what a chunk is, who waits for the descriptor, event loops.
Memory: owns the descriptor (a pipe's two where there is no eventfd) until `close`.
Threads: every method may be called from any thread; requests come on the monitor's thread and wait there, for
a bounded time, only when they are hard. No lock is held while a program frees.
Forks: an account is of the process that made it, since both would have one descriptor; a child is not asked
and makes its own.
"""

from __future__ import annotations

import contextlib
import operator
import os
import threading
import time
from collections.abc import Callable
from typing import Self

from cacheserver.pressure.default import register_shrinker, unregister_shrinker
from cacheserver.pressure.monitor import Monitor
from cacheserver.pressure.registration import OVERSHOOT_BYTES
from cacheserver.pressure.shrinker import DEFAULT_COST

# Seconds that a hard request waits for the program: freeing 64 MiB takes about 5 ms, and at 2.4 GiB/s a
# neighbour takes 48 MiB meanwhile, which the monitor does not see before the wait is over.
HARD_WAIT = 0.020


class ChunkAccount:
    """The chunks that a program could free, as a shrinker.

    `chunk_size`: bytes in a chunk, > 0. `name` and `cost` are those of `register_shrinker`. `hard_wait`:
    seconds that a hard request waits for the program at most, >= 0. `monitor`: None: the process-wide one.
    `clock` (monotonic seconds) and `wait(condition, seconds)` are what that wait is made of. Registered until
    `close`. ValueError for a size, cost or wait out of range.
    """

    def __init__(
        self,
        chunk_size: int,
        *,
        name: str = "chunks",
        cost: float = DEFAULT_COST,
        hard_wait: float = HARD_WAIT,
        monitor: Monitor | None = None,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[threading.Condition, float], object] = threading.Condition.wait,
    ) -> None:
        self.chunk_size = operator.index(chunk_size)
        if self.chunk_size <= 0:
            raise ValueError(f"chunk_size is {chunk_size} bytes: pass the bytes of one chunk, above 0")
        if not 0 <= hard_wait <= threading.TIMEOUT_MAX:
            raise ValueError(f"hard_wait is {hard_wait} seconds: pass 0 or more, and an end")
        self._hard_wait = hard_wait
        self._clock = clock
        self._wait = wait
        # Reentrant: a chunk may be reported by a finalizer, which runs wherever the collector strikes.
        self._changed = threading.Condition(threading.RLock())
        self._count = 0
        self._pending = 0
        self._freed = 0  # chunks removed since the start
        self._silent = False  # a whole wait has passed without an answer, and none has come since
        self._closed = False
        self._process = os.getpid()
        self._requests: _Eventfd | _Pipe = _Eventfd() if hasattr(os, "eventfd") else _Pipe()
        self._monitor = monitor
        try:
            # No ledger: this memory grows without the monitor's leave, so its growth has to be foreseen like
            # that of any other program.
            self._handle = register_shrinker(
                name, self.request_memory, count=self._freeable, cost=cost, monitor=monitor
            )
        except BaseException:
            self._requests.close()
            raise

    # -- the program's side --

    def add(self, chunks: int) -> None:
        """Report that `chunks` more were allocated. ValueError when negative."""
        chunks = _checked(chunks, "add", "chunks that were freed are reported with remove()")
        with self._changed:
            self._count += chunks

    def remove(self, chunks: int) -> None:
        """Report that `chunks` were freed, asked for or not; they settle what is under way first.

        ValueError when negative, or more than there are.
        """
        chunks = _checked(chunks, "remove", "chunks that were allocated are reported with add()")
        with self._changed:
            held = self._count + self._pending
            if chunks > held:
                raise ValueError(
                    f"cannot remove {chunks} chunks, the account has {held}: report each one with add() "
                    "when it is allocated, and with remove() once"
                )
            settled = min(chunks, self._pending)
            self._pending -= settled
            self._count -= chunks - settled
            self._freed += chunks
            self._answered()

    def put_back(self, chunks: int) -> int:
        """Say that `chunks` of those asked for will not be freed now; return how many went back on the count.

        That is fewer where other threads' remove() has settled part of the request meanwhile. What is put
        back may be asked for again at once. ValueError when negative.
        """
        chunks = _checked(chunks, "put back", "pass how many of the chunks asked for are kept")
        with self._changed:
            chunks = min(chunks, self._pending)
            self._pending -= chunks
            self._count += chunks
            self._answered()
            return chunks

    def read(self) -> int:
        """Take the request: chunks asked for since the last read, 0 when none; OSError when closed."""
        return self._requests.read()

    def fileno(self) -> int:
        """The descriptor that is readable while there is something to `read`; -1 when closed."""
        return self._requests.fd

    @property
    def count(self) -> int:
        """Chunks that can still be asked for."""
        return self._count

    @property
    def pending(self) -> int:
        """Chunks asked for and neither freed nor put back."""
        return self._pending

    def close(self) -> None:
        """Unregister, then close the descriptor: take it out of every loop first. A second call does nothing.

        Waits for a request that is running.
        """
        with self._changed:
            if self._closed:
                return
            self._closed = True
        unregister_shrinker(self._handle, self._monitor)
        self._requests.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- the monitor's side --

    def request_memory(self, target: int, hard: bool) -> int:
        """Ask the program for `target` bytes, in whole chunks; what is under way is not asked for twice.

        Soft: returns 0 at once, the program frees when it comes to it. Hard: waits until as much is freed,
        everything asked for is answered, or `hard_wait` is over; returns the bytes freed meanwhile. A program
        that has let one wait pass without any answer is not waited for again until it gives one.
        """
        wanted = -(-target // self.chunk_size)
        with self._changed:
            fresh = min(wanted - self._pending, self._count)
            if fresh > 0:
                self._count -= fresh
                self._pending += fresh
                self._requests.write(fresh)
            if not hard or self._silent:
                return 0
            freed = self._await(wanted)
        # What the program frees of its own accord meanwhile, and chunks of hundreds of MiB, may be far more
        # than was asked; claimed in full that would look like a lie.
        return min(freed * self.chunk_size, target + OVERSHOOT_BYTES)

    def _await(self, wanted: int) -> int:
        """Wait until `wanted` chunks are freed or none is under way; the chunks freed meanwhile."""
        before = self._freed
        end = self._clock() + self._hard_wait
        while self._pending and self._freed - before < wanted:
            left = end - self._clock()
            if left <= 0:
                self._silent = self._freed == before
                break
            self._wait(self._changed, left)
        return self._freed - before

    def _answered(self) -> None:
        self._silent = False
        self._changed.notify_all()

    def _freeable(self) -> int:
        if os.getpid() != self._process:  # before the lock: at the fork another thread may have held it
            return 0
        # What is under way is still to be had: a target counts it, and request_memory subtracts it.
        with self._changed:
            return (self._count + self._pending) * self.chunk_size


def _checked(chunks: int, verb: str, advice: str) -> int:
    chunks = operator.index(chunks)
    if chunks < 0:
        raise ValueError(f"cannot {verb} {chunks} chunks: {advice}")
    return chunks


class _Eventfd:
    """A number in the kernel that writes add to and a read takes."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def write(self, number: int) -> None:
        os.eventfd_write(self.fd, number)

    def read(self) -> int:
        try:
            return os.eventfd_read(self.fd)
        except BlockingIOError:
            return 0

    def close(self) -> None:
        os.close(self.fd)
        self.fd = -1


class _Pipe:
    """The same where the system has no eventfd: a byte in the pipe says that the number is not 0."""

    def __init__(self) -> None:
        self.fd, self._write_fd = os.pipe()
        os.set_blocking(self.fd, False)
        self._lock = threading.Lock()
        self._number = 0

    def write(self, number: int) -> None:
        with self._lock:
            if not self._number:
                os.write(self._write_fd, b"+")
            self._number += number

    def read(self) -> int:
        with self._lock:
            with contextlib.suppress(BlockingIOError):
                os.read(self.fd, 1)
            number, self._number = self._number, 0
            return number

    def close(self) -> None:
        os.close(self.fd)
        os.close(self._write_fd)
        self.fd = self._write_fd = -1
