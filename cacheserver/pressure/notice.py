"""A source that gives no readings: a descriptor on which somebody tells that tasks have waited for memory.

Knows: when to open it, what may be read from it, how long to wait before it is opened anew. Must not know:
who tells (psi, systemd), what the monitor makes of it. Memory: owns one descriptor. Threads: one at a time.
"""

from __future__ import annotations

import os
import select
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial

from cacheserver.pressure.source import Reading, Trouble, Watch

BACKOFF_MIN = 1.0  # seconds until a descriptor that was lost or refused is opened anew; doubled each time
BACKOFF_MAX = 60.0
SETTLED = 10.0  # seconds after which a descriptor opened anew counts as working: not before, it may go again
READ_BYTES = 4096
READS = 16  # of what is read to be thrown away, at one event: whoever writes without end must not hold us

GONE = select.POLLERR | select.POLLHUP | select.POLLNVAL


class NoticeSource(ABC):
    """One descriptor, kept open. A subclass says how to open it.

    Where it waits for POLLPRI it is a PSI file, which is never read: a read takes nothing away, and tells
    nothing. Where it waits for POLLIN what comes is read and discarded.
    """

    name = "notice"

    def __init__(self, trouble: Trouble) -> None:
        self._trouble = trouble
        self._fd = -1
        self._events = 0
        self._now = 0.0
        self._backoff = BACKOFF_MIN
        self._retry_at = -1e9
        self._opened_at = 0.0

    @abstractmethod
    def _open(self) -> tuple[int, int]:
        """(descriptor, poll events), or (-1, 0) where there is nothing to open and nobody expects it.

        OSError or ValueError: it should be there, and cannot be used.
        """

    def _moved(self) -> bool:
        """Whether what is open is no longer what `_open` would open."""
        return False

    def read(self, now: float) -> Sequence[Reading]:
        self._now = now
        return ()

    def quick(self, last: Reading) -> Reading | None:
        return None

    def watches(self) -> Sequence[Watch]:
        if self._fd >= 0 and self._moved():
            self.close()
        if self._fd < 0:
            if self._now < self._retry_at:
                return ()
            try:
                self._fd, self._events = self._open()
            except (OSError, ValueError) as error:
                self._later()
                self._trouble.begin(getattr(error, "strerror", None) or str(error))
                return ()
            if self._fd < 0:
                self._later()
                return ()
            self._opened_at = self._now
        elif self._now - self._opened_at >= SETTLED:
            self._backoff = BACKOFF_MIN
            self._trouble.end()
        return (Watch(self._fd, True, partial(self._acknowledge, self._fd), self._events),)

    def _later(self) -> None:
        self._retry_at = self._now + self._backoff
        self._backoff = min(2 * self._backoff, BACKOFF_MAX)

    def _acknowledge(self, fd: int, events: int) -> bool:
        if fd != self._fd:  # closed since it was handed out
            return False
        why = self._discard() if self._events == select.POLLIN else "it is gone" if events & GONE else ""
        if why:
            self.close()
            self._later()
            self._trouble.begin(why)
        return not why

    def _discard(self) -> str:
        """Read what has come. Returns why nothing more will come, "" when more may."""
        for turn in range(READS):
            try:
                if not os.read(self._fd, READ_BYTES):
                    # What came before the end is a notice still: the end is met again at the next event.
                    return "" if turn else "it was closed by the other side"
            except BlockingIOError:
                break
            except OSError as error:
                return error.strerror or str(error)
        return ""

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
