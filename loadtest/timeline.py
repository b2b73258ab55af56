"""Samples of the server's memory along the load, some times a second, from its cgroup, /proc and its `stats`.

Knows: which figure is read where. Must not know: the load, what happens beside it. A figure that cannot be
had is None in its sample, never an error; nothing here stops the load. One thread samples; `samples` is
appended by it alone and may be read by any. Sizes are bytes, times seconds since the epoch until `since`
shifts them.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean, linear_regression, median
from typing import Any, NamedTuple

from loadtest.groups import Group, NoGroup
from loadtest.whose import Target

INTERVAL = 0.25  # seconds
FIND_SECONDS = 1.0  # between two searches for a server that is gone
PATIENCE = 1.0  # seconds that `stats` may take; a server that is killed must not stop the timeline
LONGEST = 1 << 20  # bytes of a reply to `stats`
PAGE = os.sysconf("SC_PAGE_SIZE")
GROWTH_SPANS = 20
LEAST_GROWTH = 300.0  # seconds
LEVELS = ("none", "low", "medium", "critical")


class Sample(NamedTuple):
    """One look; None: not to be had. Counters (evictions, shrinks, kills, stalled) do not begin at 0."""

    at: float
    limit: int | None = None  # of the cgroup that binds
    usage: int | None = None  # of that cgroup
    kills: int | None = None  # by the kernel, in the server's cgroup
    stalled: int | None = None  # us that some task waited for memory (PSI)
    rss: int | None = None  # of the server
    hog: int | None = None  # resident size of the process beside it, without what it shares with others
    level: str | None = None
    headroom: int | None = None
    reserve: int | None = None
    ceiling: int | None = None  # what the server says it may use (limit_maxbytes, maxmemory)
    items: int | None = None
    item_bytes: int | None = None  # as the server counts
    cache: int | None = None  # resident bytes of the store, where the server tells
    evictions: int | None = None
    shrinks: int | None = None

    @property
    def other(self) -> int | None:
        """The server's resident bytes that are not its store."""
        return None if self.rss is None or self.cache is None else self.rss - self.cache

    def told(self) -> dict[str, float | int | str]:
        """The figures that there are, for JSON."""
        return {name: value for name, value in self._asdict().items() if value is not None}


def sample_of(told: Mapping[str, Any]) -> Sample:
    """A sample from what told() gave; what is not known is left out."""
    return Sample(**{name: value for name, value in told.items() if name in Sample._fields})


def interpret(stats: Mapping[str, str]) -> dict[str, int | str]:
    """Fields of Sample from the `stats` of a memcached server or Redis's INFO."""
    found: dict[str, int | str] = {}

    def number(field: str, *names: str) -> None:
        for name in names:
            with contextlib.suppress(KeyError, ValueError):
                found[field] = int(stats[name])
                return

    number("headroom", "pressure_headroom")
    number("reserve", "pressure_reserve")
    number("ceiling", "limit_maxbytes", "maxmemory")
    number("items", "curr_items")
    number("item_bytes", "bytes", "used_memory_dataset", "used_memory")
    number("evictions", "evictions", "evicted_keys")
    if "pressure_level" in stats:
        found["level"] = stats["pressure_level"]
    with contextlib.suppress(KeyError, ValueError):
        found["shrinks"] = int(stats["pressure_shrinks_soft"]) + int(stats["pressure_shrinks_hard"])
    with contextlib.suppress(KeyError, ValueError):
        found["cache"] = int(stats["store_committed"]) - int(stats["store_untouched"])
    return found


def connect(address: str, timeout: float) -> socket.socket:
    """A connection to "host:port", "[v6]:port" or the path of a Unix socket. OSError."""
    if "/" in address:
        unix = socket.socket(socket.AF_UNIX)
        unix.settimeout(timeout)
        try:
            unix.connect(address)
        except OSError:
            unix.close()
            raise
        return unix
    host, _, port = address.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout)


class Stats:
    """Asks a server for its `stats`, Redis for INFO, over one connection that is made anew when it breaks."""

    def __init__(self, address: str, protocol: str = "text") -> None:
        self._address = address
        self._resp = protocol == "resp"
        self._socket: socket.socket | None = None

    def read(self) -> dict[str, str]:
        """Name and value of each figure; empty where the server does not answer in time."""
        try:
            if self._socket is None:
                self._socket = connect(self._address, PATIENCE)
            self._socket.sendall(b"INFO\r\n" if self._resp else b"stats\r\n")
            lines = self._reply(self._socket).decode(errors="replace").splitlines()
        except (OSError, ValueError):
            self.close()
            return {}
        if self._resp:
            return dict(line.split(":", 1) for line in lines if ":" in line)
        return {words[1]: words[2] for words in (line.split(" ", 2) for line in lines) if len(words) == 3}

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _reply(self, connection: socket.socket) -> bytes:
        data = b""
        until = time.monotonic() + PATIENCE  # for all of it: a reply that trickles never ends
        while not self._whole(data):
            if len(data) > LONGEST:
                raise ValueError("no end")
            if (left := until - time.monotonic()) <= 0.0:
                raise TimeoutError
            connection.settimeout(left)
            piece = connection.recv(1 << 16)
            if not piece:
                raise ConnectionResetError
            data += piece
        return data

    def _whole(self, data: bytes) -> bool:
        if not self._resp:
            return data.endswith((b"END\r\n", b"ERROR\r\n"))
        head, found, rest = data.partition(b"\r\n")
        if not found:
            return False
        return head[:1] != b"$" or len(rest) >= int(head[1:]) + 2


def resident(pid: int | None, proc: Path = Path("/proc"), *, private: bool = False) -> int | None:
    """A process's resident bytes, with `private` without those of files and shared ones; None: it is gone."""
    if pid is None:
        return None
    with contextlib.suppress(OSError, ValueError, IndexError):
        pages, shared = map(int, (proc / str(pid) / "statm").read_text().split()[1:3])
        return (pages - shared if private else pages) * PAGE or None
    return None


class Timeline:
    """Looks at a server every `interval` seconds, from start() to stop().

    `find` tells who the server is: asked at the start and, while its process is gone, again every second.
    `hog` gives the id of the process beside it.
    """

    def __init__(
        self,
        find: Callable[[], Target],
        stats: Callable[[], Mapping[str, str]],
        hog: Callable[[], int | None] = lambda: None,
        interval: float = INTERVAL,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.samples: list[Sample] = []
        self._find = find
        self._target = find()
        self._here = self._target.pid is not None  # on this machine: worth a search when it is gone
        self._next_find = 0.0
        self._stats = stats
        self._hog = hog
        self._interval = interval
        self._clock = clock
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="loadtest-timeline", daemon=True)

    @property
    def latest(self) -> Sample | None:
        return self.samples[-1] if self.samples else None

    def start(self) -> None:
        self.look()
        self._thread.start()

    def stop(self) -> None:
        """A last look, and no more."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(PATIENCE * 3)
        self.look()

    def look(self) -> Sample:
        """Take one sample now."""
        now = self._clock()
        rss = resident(self._target.pid)
        if rss is None and self._here and now >= self._next_find:
            self._next_find = now + FIND_SECONDS
            with contextlib.suppress(NoGroup):
                found = self._find()
                # A server that was killed leaves its group behind, where the kill is counted.
                self._target = Target(found.pid, found.group or self._target.group)
                rss = resident(found.pid)
        figures: dict[str, object] = {"rss": rss, "hog": resident(self._hog(), private=True)}
        if self._target.group is not None:
            figures |= group_figures(self._target.group)
        figures |= interpret(self._stats())
        sample = sample_of({"at": now, **figures})
        self.samples.append(sample)
        return sample

    def _run(self) -> None:
        while not self._over.wait(self._interval):
            # A look that fails in a way nobody thought of costs this sample, not the run.
            with contextlib.suppress(Exception):
                self.look()


def group_figures(group: Group) -> dict[str, object]:
    """Fields of Sample that a cgroup tells; the usage only beside a limit that it runs up against.

    A server outside of any container is in the machine's own group, whose usage is all that runs there.
    """
    limit, usage = group.binding() or (None, None)
    return {"limit": limit, "usage": usage, "kills": group.kills(), "stalled": group.stalled()}


# -- what samples tell together; pure --


def since(samples: Sequence[Sample], start: float) -> list[Sample]:
    """The samples with times from `start` on the same clock; those before are negative."""
    return [sample._replace(at=round(sample.at - start, 3)) for sample in samples]


def rises(samples: Sequence[Sample], field: str) -> int | None:
    """By how much a counter rose; None where it was never seen. A return to less is a new start from 0."""
    values: list[int] = [
        value for value in (getattr(sample, field) for sample in samples) if value is not None
    ]
    if not values:
        return None
    return sum(after - before if after >= before else after for before, after in pairwise(values))


def growth(samples: Sequence[Sample]) -> float | None:
    """Bytes an hour by which the server's memory beside its store grows.

    Over the later two thirds of the load, as the first of it fills buffers: the slope of least squares
    through the medians of GROWTH_SPANS equal times. A median, because the two sizes are read one after the
    other, and what the store gives back in between is tens of MiB in a single sample. None where it is not
    told, and of a load shorter than LEAST_GROWTH, in which a slope by the hour would be noise.
    """
    points = [(sample.at, sample.other) for sample in samples if sample.at >= 0 and sample.other is not None]
    end = points[-1][0] if points else 0.0
    if end < LEAST_GROWTH:
        return None
    spans: dict[int, list[tuple[float, int]]] = {}
    for at, other in points:
        if at >= end / 3:
            spans.setdefault(int((at / end - 1 / 3) * 1.5 * GROWTH_SPANS), []).append((at, other))
    found = [(fmean(at for at, _ in span), median(other for _, other in span)) for span in spans.values()]
    if len(found) < 3:
        return None
    return 3600.0 * linear_regression(*zip(*found, strict=True)).slope
