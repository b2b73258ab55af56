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
from typing import NamedTuple, Protocol, runtime_checkable

log = logging.getLogger("cacheserver.pressure")

READ_BYTES = 16384  # memory.stat of a current kernel has about 4 KiB; /proc/meminfo 1.5 KiB
# no such file; or, of a memory.pressure, stalls are not accounted
ABSENT = (errno.ENOENT, errno.EOPNOTSUPP)
DIGITS_MAX = 20  # of a number of 64 bits
MARKED = 0.05  # of the limit: at so much left the kernel calls, where it does
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
    # The NUMA nodes this bound is made of: what lies there helps. Most of the process does, also of caches
    # that cannot tell where theirs is. (): what lies anywhere helps.
    nodes: tuple[int, ...] = ()


class Watch(NamedTuple):
    """A descriptor that becomes ready when the host has something to say between two ticks."""

    fd: int
    # True: its event alone is evidence of pressure (PSI); False: it only calls for a full reading
    stall: bool
    # given poll's event mask; False: nothing more from it until `watches` offers it again
    acknowledge: Callable[[int], bool]
    events: int = select.POLLPRI  # what to wait for, as poll's mask


class Gauge(NamedTuple):
    """Where the limit and the usage of one bound stand, for who reads them without this package's Python."""

    usage_fd: int
    limit_fds: tuple[int, ...] = ()  # the lowest finite one counts
    meminfo: bool = False  # `usage_fd` is /proc/meminfo, whose MemTotal and MemAvailable tell both
    stat_fd: int = -1  # memory.stat; -1: none
    # its fields, with the blank after each key: half their weighted sum is the page cache that can be dropped
    terms: tuple[tuple[bytes, int], ...] = ()
    marked: bool = False  # a watch of the source tells when usage rises so far that MARKED is left


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


@runtime_checkable
class Gauged(Protocol):
    """A source that can show the open files behind a reading."""

    def gauge(self, last: Reading) -> Gauge | None:
        """The files of the bound `last` describes, which stay this source's; None: there are no such, or not
        open.
        """


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
        # A descriptor may outlive its file (a group removed and made anew): what fails is tried afresh once.
        for afresh in (self._fd < 0, True):
            try:
                if self._fd < 0:
                    self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
                text = os.pread(self._fd, READ_BYTES, 0)
            except OSError as error:
                self.close()
                if not afresh:
                    continue
                if not (self._optional and error.errno in ABSENT):
                    self.complain(error.strerror or str(error))
                return None
            self._optional = False
            return text
        return None

    def number(self, unlimited: bytes = b"") -> int | None:
        """The one number in the file; -1 when it says `unlimited`; None when unreadable or garbled."""
        text = self.read()
        if text is None:
            return None
        try:
            value = whole(text)
        except ValueError:
            text = text.strip()
            if unlimited and text == unlimited:
                value = -1
            else:
                self.close()  # it may be that of a file that is gone: open it afresh next time
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
            value = float(text[len(SOME) : text.index(b" ", len(SOME))]) if text.startswith(SOME) else -1.0
        except ValueError:
            value = -1.0
        if not 0.0 <= value <= 100.0:  # nor is it "nan", which Python would take for a number
            self.complain("no some avg10 in it")
            return 0.0
        self._trouble.end()
        return value

    def fileno(self) -> int:
        """The descriptor, this probe's own; -1 while the file is not open."""
        return self._fd

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


def whole(text: bytes) -> int:
    """The number that `text` says, with blanks around it or none. ValueError for what no counter of the
    kernel can say: it has 64 bits and no sign.
    """
    text = text.strip()
    if not text.isdigit() or len(text) > DIGITS_MAX:
        raise ValueError("not a number of the kernel's")
    return int(text)


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
        return whole(words[0])
    except (IndexError, ValueError):
        return None


def detect(root: str = "/", environ: Mapping[str, str] = os.environ) -> list[Source]:
    """All sources this host offers. `root`: the directory under which /proc and /sys are looked for;
    `environ`: where a service manager says what to watch.
    """
    # A /proc mounted with subset=pid has no meminfo, but it leads to the groups, which kill as elsewhere.
    if not any(os.path.exists(os.path.join(root, "proc", name)) for name in ("meminfo", "self/mountinfo")):
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
