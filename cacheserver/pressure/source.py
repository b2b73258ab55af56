"""What a source of readings is, and the open file that every source on a /proc or /sys file is built from.

Knows: file descriptors, kernel text formats, when to log. Must not know: the policy, shrinkers, threads, the
store. Memory: a Probe owns one file descriptor; the source that made it closes it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

log = logging.getLogger("cacheserver.pressure")

READ_BYTES = 16384  # memory.stat of a current kernel has about 4 KiB; /proc/meminfo 1.5 KiB


class Reading(NamedTuple):
    """One bound on memory, as the host shows it at one moment. All sizes in bytes."""

    name: str  # "host", "cgroup /a/b": unique among all sources
    limit: int
    usage: int
    reclaimable: int = 0  # page cache inside `usage` that the kernel can drop at once (clean and unmapped)
    stall: float = 0.0  # PSI "some avg10" of this bound, percent 0..100
    throttles: int = 0  # times usage reached the bound (memory.events high + max); only a rise means anything
    ooms: int = 0  # times the OOM killer was near (memory.events oom + oom_kill); only a rise means anything
    stale: bool = False  # True: could not be read now; these are the last known values


class Watch(NamedTuple):
    """A descriptor that becomes ready (POLLPRI) when the host has something to say between two ticks."""

    fd: int
    # True: its event alone is evidence of pressure (PSI); False: it only calls for a full reading
    stall: bool
    acknowledge: Callable[[int], bool]  # given poll's event mask; False: the descriptor is gone, forget it


class Source(Protocol):
    """Gives readings of some bounds. Used by one thread at a time; never raises for what the host does."""

    name: str

    def read(self, now: float) -> Sequence[Reading]:
        """Read every bound of this source in full. `now` in seconds of any monotonic clock."""

    def quick(self, last: Reading) -> Reading | None:
        """Re-read limit and usage of the bound `last` describes; None: not possible, read in full."""

    def watches(self) -> Sequence[Watch]:
        """The descriptors worth waiting for now; may open them, may change between calls."""

    def close(self) -> None:
        """Close all descriptors; a later `read` opens them again."""


class Probe:
    """One small kernel file, kept open and read with pread.

    A file that cannot be read yields None and one log line; it is tried again at every read, with one line
    when it is back. `optional` files are absent on some kernels: their absence is not worth a line.
    """

    __slots__ = ("_fd", "_ok", "_optional", "path")

    def __init__(self, path: str, *, optional: bool = False) -> None:
        self.path = path
        self._fd = -1
        self._ok = True
        self._optional = optional

    def read(self) -> bytes | None:
        """The file's text, or None."""
        try:
            if self._fd < 0:
                self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            return os.pread(self._fd, READ_BYTES, 0)
        except OSError as error:
            self.close()
            if not self._optional:
                self.complain(error.strerror or str(error))
            return None

    def number(self, unlimited: bytes = b"") -> int | None:
        """The one number in the file; -1 when it says `unlimited`; None when unreadable or garbled."""
        text = self.read()
        if text is None:
            return None
        try:
            value = int(text)
        except ValueError:
            text = text.strip()
            if unlimited and text == unlimited:
                value = -1
            else:
                # A descriptor may outlive its file (a group removed and made anew): open it afresh next time.
                self.close()
                self.complain(f"no number in {text[:40]!r}")
                return None
        if not self._ok:
            self.recover()
        return value

    def complain(self, why: str) -> None:
        """One line for the first failure in a row."""
        if self._ok:
            self._ok = False
            log.warning("%s: %s; going on without it", self.path, why)

    def recover(self) -> None:
        """One line when it works again."""
        if not self._ok:
            self._ok = True
            log.info("%s: readable again", self.path)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def field(text: bytes, key: bytes) -> int | None:
    """The number after `key` at a line's start in `text` (memory.stat, memory.events, meminfo), or None."""
    if text.startswith(key):
        start = len(key)
    else:
        start = text.find(b"\n" + key)
        if start < 0:
            return None
        start += 1 + len(key)
    end = text.find(b"\n", start)
    words = text[start : end if end >= 0 else None].split(None, 1)
    try:
        return int(words[0])
    except (IndexError, ValueError):
        return None


def some_avg10(text: bytes | None) -> float:
    """PSI's "some avg10" in percent, 0.0 when there is none."""
    if not text or not text.startswith(b"some avg10="):
        return 0.0
    try:
        return float(text[11 : text.index(b" ", 11)])
    except ValueError:
        return 0.0


def detect(root: str = "/") -> list[Source]:
    """All sources this host offers. `root` is the directory under which /proc and /sys are looked for."""
    from cacheserver.pressure.cgroup import CgroupSource
    from cacheserver.pressure.host import MeminfoSource, PsutilSource
    from cacheserver.pressure.psi import StallSource

    if not os.path.exists(os.path.join(root, "proc/meminfo")):
        return [PsutilSource()]
    return [CgroupSource(root), MeminfoSource(root), StallSource(root)]
