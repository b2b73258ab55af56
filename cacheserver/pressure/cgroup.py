"""Bounds from memory cgroups, v1 and v2: this process's own group and every visible ancestor.

Knows: the files of the two memory controllers. Must not know: how a bound is judged (policy), who frees it.
Memory: each group owns its open probes and notices; CgroupSource closes them.

A group counts as bounded only where it has both a finite limit and a usage; the v2 root has neither. A limit
set later on a group that had none is seen at the next full reading, a controller enabled later within a
second. A bound once known is kept, stale, as long as its directory exists: what cannot be read still kills.

Swap that is free is never counted as free memory: a cache that is swapped out is slower than the place its
items come from. What a group of version 1 has in swap counts where its limit on memory and swap together
(memory.memsw.limit_in_bytes) leaves less than that on memory. Version 2 limits swap apart from memory
(memory.swap.max), so it bounds nothing here.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import NamedTuple

from cacheserver.pressure.membership import Membership
from cacheserver.pressure.mounts import Group
from cacheserver.pressure.source import Gauge, Probe, Reading, Trouble, Watch, field
from cacheserver.pressure.vmpressure import GroupNotices

UNLIMITED_V1 = 1 << 62  # v1 writes "no limit" as 2^63 rounded down to pages; nothing real is near it
# how often to look for what seldom changes: the process's group, enabled controllers, hidden limits
REFRESH_SECONDS = 1.0


class _Stat(NamedTuple):
    """What is asked of memory.stat; the names differ between the versions."""

    inactive: bytes
    active: bytes
    not_free: tuple[bytes, ...]


# Mapped page cache is somebody's running program and dirty page cache needs a disk first: neither is "free".
_STAT = {
    1: _Stat(
        b"total_inactive_file ",
        b"total_active_file ",
        (b"total_mapped_file ", b"total_dirty ", b"total_writeback "),
    ),
    2: _Stat(b"inactive_file ", b"active_file ", (b"file_mapped ", b"file_dirty ", b"file_writeback ")),
}


class _Counters:
    """How often usage reached the group's limit (v2), and how often the OOM killer was near (v1: at work).

    v1's memory.failcnt is no such count: it rises with all page cache that takes the place of other page
    cache. What v1 tells instead is in vmpressure.
    """

    def __init__(self, group: Group) -> None:
        at = group.directory
        self._version = group.version
        if group.version == 1:
            self._file = Probe(os.path.join(at, "memory.oom_control"), optional=True)
        else:
            # memory.events counts what happens at the limits of groups below, too; Linux 5.2 tells it apart.
            local = os.path.join(at, "memory.events.local")
            path = local if os.path.exists(local) else os.path.join(at, "memory.events")
            self._file = Probe(path, optional=True)
        self._last = (0, 0)

    @property
    def path(self) -> str:
        return self._file.path

    def read(self) -> tuple[int, int]:
        """(throttles, ooms); what cannot be read stays as it was: a return from 0 would look like a rise."""
        text = self._file.read()
        if text is None:
            return self._last
        kills = field(text, b"oom_kill ") or 0
        if self._version == 1:
            if field(text, b"under_oom ") is None:
                self._file.complain("no under_oom in it")
                return self._last
            self._last = (0, kills)
        else:
            high, most = field(text, b"high "), field(text, b"max ")
            if high is None or most is None:
                self._file.complain("no high and max in it")
                return self._last
            self._last = (high + most, kills + (field(text, b"oom ") or 0))
        self._file.recover()
        return self._last

    def close(self) -> None:
        self._file.close()


def _inode(group: Group) -> int:
    """What tells a group from another that has taken its place; 0: there is none."""
    try:
        return os.stat(group.directory).st_ino
    except OSError:
        return 0


class Bound:
    """One group's files."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self.inode = _inode(group)
        self.name = "cgroup " + group.path
        at = group.directory
        self.notices: GroupNotices | None = None
        self._with_swap: Probe | None = None
        self._pressure: Probe | None = None
        if group.version == 1:
            self._limits = [Probe(os.path.join(at, "memory.limit_in_bytes"))]
            self._usage = Probe(os.path.join(at, "memory.usage_in_bytes"))
            self._with_swap = Probe(os.path.join(at, "memory.memsw.limit_in_bytes"), optional=True)
            self.notices = GroupNotices(at)
        else:
            # memory.high throttles long before memory.max kills: the lower of the two is the bound.
            names = ("memory.max", "memory.high")
            self._limits = [Probe(os.path.join(at, name), optional=name == "memory.high") for name in names]
            self._usage = Probe(os.path.join(at, "memory.current"))
            self._pressure = Probe(os.path.join(at, "memory.pressure"), optional=True)
        self._stat = Probe(os.path.join(at, "memory.stat"))
        self._counters = _Counters(group)
        self._events_fd = -1
        self._limits_known: set[Probe] = set()  # read before: a failure is not "there is none"
        self._last: Reading | None = None
        self._swapped: Reading | None = None
        self._above: Reading | None = None
        self._above_at = -1e9

    @staticmethod
    def exists(group: Group) -> bool:
        """Whether the group has the memory controller's files (in a hybrid set-up the v2 side has none)."""
        name = "memory.limit_in_bytes" if group.version == 1 else "memory.max"
        return os.path.exists(os.path.join(group.directory, name))

    def limit(self) -> int | None:
        """The lower of the group's limits in bytes; -1: no limit; None: unreadable."""
        lowest = -1
        for index, probe in enumerate(self._limits):
            value = probe.number(b"max")
            if value is None:
                if index == 0 or probe in self._limits_known:
                    return None
                continue
            self._limits_known.add(probe)
            if 0 <= value < UNLIMITED_V1 and (lowest < 0 or value < lowest):
                lowest = value
        return lowest

    def read(self, now: float) -> list[Reading]:
        """The group's bound; on v1 also memory with swap, and the lowest limit above the visible tree."""
        limit = self.limit()
        if limit == -1:
            self._last = self._swapped = None
            if not self._look_above(now):
                return []
        usage = None if limit is None else self._usage.number()  # of a group that is gone one file tells
        if limit is None or usage is None:
            return [one._replace(stale=True) for one in (self._last, self._swapped, self._above) if one]
        stat = self._stat.read()
        reclaimable = self._reclaimable(stat)
        if limit >= 0:
            throttles, ooms = self._counters.read()
            throttles += self.notices.criticals if self.notices else 0
            stall = self._pressure.stall() if self._pressure else 0.0
            self._last = Reading(self.name, limit, usage, reclaimable, stall, throttles, ooms)
            self._swapped = self._read_swapped(stat, self._last)
        if self.group.topmost and self.group.version == 1:
            self._above = self._read_above(stat or b"", limit, usage, reclaimable)
        return [one for one in (self._last, self._swapped, self._above) if one]

    def _read_swapped(self, stat: bytes | None, memory: Reading) -> Reading | None:
        """The bound on memory and swap together, where swap is in use and so makes it the lower one."""
        if self._with_swap is None:
            return None
        swap = field(stat, b"total_swap ") if stat else None
        limit = self._with_swap.number() if swap or self._swapped else None
        if self._swapped and (swap is None or limit is None):
            return self._swapped._replace(stale=True)
        if not swap or limit is None or limit >= UNLIMITED_V1 or limit - swap >= memory.limit:
            return None
        name = f"{self.name} with swap"
        return Reading(name, limit, memory.usage + swap, memory.reclaimable, memory.stall)

    def _look_above(self, now: float) -> bool:
        """Whether a group without a limit of its own is to be read for the limits above it."""
        if not self.group.topmost or self.group.version != 1:
            return False
        if self._above is None and now - self._above_at < REFRESH_SECONDS:
            return False
        self._above_at = now
        return True

    def _read_above(self, stat: bytes, limit: int, usage: int, reclaimable: int) -> Reading | None:
        """Of an ancestor that is not visible only the limit shows, in `stat`; its usage is at least ours."""
        above = field(stat, b"hierarchical_memory_limit ")
        if above is None:
            return self._above and self._above._replace(usage=usage, reclaimable=0, stale=True)
        if above >= UNLIMITED_V1 or 0 <= limit <= above:
            return None
        return Reading(f"cgroup above {self.group.path}", above, usage, reclaimable)

    def quick(self, last: Reading) -> Reading | None:
        """Limit and usage anew, the rest as it was."""
        limit = self.limit()
        if limit is None or limit < 0:
            return None
        usage = self._usage.number()
        return None if usage is None else last._replace(limit=limit, usage=usage)

    def gauge(self) -> Gauge | None:
        """The files that `quick` reads."""
        usage = self._usage.fileno()
        limits = tuple(fd for probe in self._limits if (fd := probe.fileno()) >= 0)
        if usage < 0 or not limits:
            return None
        names = _STAT[self.group.version]
        terms = ((names.inactive, 2), (names.active, 1), *((name, -2) for name in names.not_free))
        marked = bool(self.notices and self._last and self.notices.marked(self._last.limit))
        return Gauge(usage, limits, stat_fd=self._stat.fileno(), terms=terms, marked=marked)

    def _reclaimable(self, stat: bytes | None) -> int:
        """Page cache that the kernel drops without waiting; active pages count half, they come back."""
        if stat is None:
            return 0
        names = _STAT[self.group.version]
        inactive, active = field(stat, names.inactive), field(stat, names.active)
        if inactive is None or active is None:
            self._stat.complain("no inactive_file and active_file in it")
            return 0
        self._stat.recover()
        return max(0, inactive + active // 2 - sum(field(stat, name) or 0 for name in names.not_free))

    def watches(self) -> list[Watch]:
        """What the kernel notifies of: pressure and marks on v1, memory.events on v2."""
        if self.notices:
            # Where the whole host shows, its pressure is told by the group at the top, which has no limit.
            if self._last is None and not self.group.topmost:
                return []
            return self.notices.watches(self._last.limit if self._last else -1)
        if self._last is None:
            return []
        if self._events_fd < 0:
            try:
                self._events_fd = os.open(self._counters.path, os.O_RDONLY | os.O_CLOEXEC)
                os.pread(self._events_fd, 1024, 0)
            except OSError:
                return []
        return [Watch(self._events_fd, False, self._acknowledge)]

    def _acknowledge(self, _events: int) -> bool:
        if self._events_fd < 0:  # closed since the descriptor was handed out
            return False
        try:
            os.pread(self._events_fd, 1024, 0)  # only a read re-arms the notification of this descriptor
        except OSError:
            os.close(self._events_fd)
            self._events_fd = -1
            return False
        return True

    def close(self) -> None:
        for probe in (*self._limits, self._usage, self._with_swap, self._stat, self._pressure):
            if probe:
                probe.close()
        self._counters.close()
        if self.notices:
            self.notices.close()
        if self._events_fd >= 0:
            os.close(self._events_fd)
            self._events_fd = -1


class CgroupSource:
    """All memory cgroups that bound this process. `root`: the directory that holds proc and sys."""

    name = "cgroup"

    def __init__(self, root: str = "/") -> None:
        self._membership = Membership(root)
        self._no_notices = Trouble(
            "notice of pressure (cgroup v1)", logging.INFO
        )  # polling goes on without them
        self._refreshed = -1e9
        self._bounds: dict[str, Bound] = {}

    def _refresh(self, now: float) -> None:
        """Follow the process when it is moved to another group, and a group when it becomes a bound."""
        if now - self._refreshed < REFRESH_SECONDS:
            return
        self._refreshed = now
        kept = {}
        for group in self._membership.groups():
            bound = self._bounds.pop("cgroup " + group.path, None)
            if bound and (bound.group, bound.inode) != (group, _inode(group)):
                bound.close()
                bound = None
            if bound is None and Bound.exists(group):
                bound = Bound(group)
            if bound:
                kept[bound.name] = bound
        for bound in self._bounds.values():
            bound.close()
        self._bounds = kept

    def read(self, now: float) -> Sequence[Reading]:
        self._refresh(now)
        result = []
        for bound in self._bounds.values():
            result += bound.read(now)
        return result

    def quick(self, last: Reading) -> Reading | None:
        bound = self._bounds.get(last.name)
        return bound.quick(last) if bound else None

    def gauge(self, last: Reading) -> Gauge | None:
        bound = self._bounds.get(last.name)
        return bound.gauge() if bound else None

    def watches(self) -> Sequence[Watch]:
        result = [watch for bound in self._bounds.values() for watch in bound.watches()]
        notices = [bound.notices for bound in self._bounds.values() if bound.notices]
        problem = next((one.problem for one in notices if one.problem), "")
        if problem:
            self._no_notices.begin(problem)
        elif notices:
            self._no_notices.end()
        return result

    def close(self) -> None:
        for bound in self._bounds.values():
            bound.close()
        self._bounds = {}
        self._refreshed = -1e9
        self._membership.close()
