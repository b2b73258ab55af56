"""What a source of readings is, and the open file that every source on a /proc or /sys file is built from.

Knows: file descriptors, kernel text formats, when to log. Must not know: the policy, shrinkers, threads, the
store. Memory: a Probe owns one file descriptor; the source that made it closes it. Threads: a source, and
what it is built from, belongs to one thread at a time.
"""

from __future__ import annotations

import errno
import logging
import os
import select
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

log = logging.getLogger("cacheserver.pressure")

READ_BYTES = 16384  # memory.stat of a current kernel has about 4 KiB; /proc/meminfo 1.5 KiB
# no such file; or, of a memory.pressure, stalls are not accounted
ABSENT = (errno.ENOENT, errno.EOPNOTSUPP)
SOME = b"some avg10="  # how a PSI file begins


class Reading(NamedTuple):
    """One bound on memory, as the host shows it at one moment. All sizes in bytes."""

    name: str  # "host", "cgroup /a/b", "node 0": unique among all sources
    limit: int
    usage: int
    reclaimable: int = 0  # page cache inside `usage` that the kernel can drop at once (clean and unmapped)
    stall: float = 0.0  # PSI "some avg10" of this bound, percent 0..100
    throttles: int = 0  # times usage reached the bound or reclaim failed there; only a rise means anything
    ooms: int = 0  # times the OOM killer was near or at work; only a rise means anything
    stale: bool = False  # True: could not be read now; these are the last known values
    # The one NUMA node this bound is made of: what lies there helps. Most of the process does, also of caches
    # that cannot tell where theirs is. None: what lies anywhere helps.
    node: int | None = None


class Watch(NamedTuple):
    """A descriptor that becomes ready when the host has something to say between two ticks."""

    fd: int
    # True: its event alone is evidence of pressure (PSI); False: it only calls for a full reading
    stall: bool
    # given poll's event mask; False: nothing more from it until `watches` offers it again
    acknowledge: Callable[[int], bool]
    events: int = select.POLLPRI  # what to wait for, as poll's mask


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


class Trouble:
    """What is wrong with one thing, told once: a line when it begins, a line when it is over.

    what: names the thing in both lines. level: how much the first one matters, as in `logging`.
    """

    __slots__ = ("_level", "_told", "what")

    def __init__(self, what: str, level: int = logging.WARNING) -> None:
        self.what = what
        self._level = level
        self._told = False

    def begin(self, why: str) -> None:
        """It does not work; logged the first time in a row."""
        if not self._told:
            self._told = True
            log.log(self._level, "%s: %s; going on without it", self.what, why)

    def end(self) -> None:
        """It works; logged where it did not before."""
        if self._told:
            self._told = False
            log.info("%s: works again", self.what)


class Probe:
    """One small kernel file, kept open and read with pread.

    A file that cannot be read yields None and one log line; it is tried again at every read, with one line
    when it is back. `optional` files are absent on some kernels: their absence from the beginning is not
    worth a line.
    """

    __slots__ = ("_fd", "_optional", "_trouble", "path")

    def __init__(self, path: str, *, optional: bool = False) -> None:
        self.path = path
        self._fd = -1
        self._trouble = Trouble(path)
        self._optional = optional

    def read(self) -> bytes | None:
        """The file's text, or None."""
        try:
            if self._fd < 0:
                self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            text = os.pread(self._fd, READ_BYTES, 0)
        except OSError as error:
            self.close()
            if not (self._optional and error.errno in ABSENT):
                self.complain(error.strerror or str(error))
            return None
        self._optional = False
        return text

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
        self._trouble.end()
        return value

    def stall(self) -> float:
        """PSI's "some avg10" in percent; 0.0 when there is none, or it is garbled."""
        text = self.read()
        if text is None:
            return 0.0
        try:
            value = float(text[len(SOME) : text.index(b" ", len(SOME))]) if text.startswith(SOME) else None
        except ValueError:
            value = None
        if value is None:
            self.complain("no some avg10 in it")
            return 0.0
        self._trouble.end()
        return value

    def complain(self, why: str) -> None:
        """One line for the first failure in a row."""
        self._trouble.begin(why)

    def recover(self) -> None:
        """One line when it works again."""
        self._trouble.end()

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


def detect(root: str = "/", environ: Mapping[str, str] = os.environ) -> list[Source]:
    """All sources this host offers. `root`: the directory under which /proc and /sys are looked for;
    `environ`: where a service manager says what to watch.
    """
    if not os.path.exists(os.path.join(root, "proc/meminfo")):
        from cacheserver.pressure.host import PsutilSource

        return [PsutilSource()]
    # What only Linux has (fcntl, resource) is imported only there.
    from cacheserver.pressure.cgroup import CgroupSource
    from cacheserver.pressure.host import MeminfoSource
    from cacheserver.pressure.numa import NodeSource
    from cacheserver.pressure.psi import StallSource
    from cacheserver.pressure.rlimit import RlimitSource
    from cacheserver.pressure.systemd import ServiceSource

    sources: list[Source] = [CgroupSource(root), MeminfoSource(root), NodeSource(root), RlimitSource(root)]
    watch = environ.get("MEMORY_PRESSURE_WATCH")
    if watch is None:
        sources.append(StallSource(root))
    elif watch not in ("", "/dev/null"):  # these two mean: no notices; the readings stay
        sources.append(ServiceSource(watch, environ.get("MEMORY_PRESSURE_WRITE", ""), root))
    return sources
