"""Bounds from memory cgroups, v1 and v2: this process's own group and every visible ancestor.

Knows: the files of the two memory controllers. Must not know: how a bound is judged (policy), who frees it.
Memory: each group owns its open probes; CgroupSource closes them.

A group counts as bounded only where it has both a finite limit and a usage; the v2 root has neither. A limit
set later on a group that had none is seen at the next full reading, a controller enabled later within a
second. A bound once known is kept, stale, as long as its directory exists: what cannot be read still kills.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from cacheserver.pressure.mounts import Group, groups
from cacheserver.pressure.source import Probe, Reading, Watch, field, some_avg10

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


class Bound:
    """One group's files."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self.name = "cgroup " + group.path
        at = group.directory
        if group.version == 1:
            self._limits = [Probe(os.path.join(at, "memory.limit_in_bytes"))]
            self._usage = Probe(os.path.join(at, "memory.usage_in_bytes"))
            self._pressure = self._events = None
        else:
            # memory.high throttles long before memory.max kills: the lower of the two is the bound.
            names = ("memory.max", "memory.high")
            self._limits = [Probe(os.path.join(at, name), optional=name == "memory.high") for name in names]
            self._usage = Probe(os.path.join(at, "memory.current"))
            self._pressure = Probe(os.path.join(at, "memory.pressure"), optional=True)
            self._events = Probe(os.path.join(at, "memory.events"), optional=True)
        self._stat = Probe(os.path.join(at, "memory.stat"))
        self._events_fd = -1
        self._limits_known: set[Probe] = set()  # read before: a failure is not "there is none"
        self._last: Reading | None = None
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
        """The group's bound, and that of the lowest limit above the visible tree where v1 tells of one."""
        limit = self.limit()
        if limit == -1:
            self._last = None
            if not self._look_above(now):
                return []
        usage = self._usage.number()
        if limit is None or usage is None:
            return [one._replace(stale=True) for one in (self._last, self._above) if one]
        stat = self._stat.read()
        reclaimable = self._reclaimable(stat)
        if limit >= 0:
            throttles, ooms = self._read_events()
            stall = some_avg10(self._pressure.read()) if self._pressure else 0.0
            self._last = Reading(self.name, limit, usage, reclaimable, stall, throttles, ooms)
        if self.group.topmost and self.group.version == 1:
            self._above = self._read_above(stat or b"", limit, usage, reclaimable)
        return [one for one in (self._last, self._above) if one]

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
        usage = self._usage.number()
        if limit is None or limit < 0 or usage is None:
            return None
        return last._replace(limit=limit, usage=usage)

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

    def _read_events(self) -> tuple[int, int]:
        text = self._events.read() if self._events else None
        if not text:
            return 0, 0
        high, maximum = field(text, b"high ") or 0, field(text, b"max ") or 0
        return high + maximum, (field(text, b"oom ") or 0) + (field(text, b"oom_kill ") or 0)

    def watch(self) -> Watch | None:
        """Readiness of v2's memory.events: the file changes when the kernel counts a high, max or oom."""
        if self._events is None or self._last is None:
            return None
        if self._events_fd < 0:
            try:
                self._events_fd = os.open(self._events.path, os.O_RDONLY | os.O_CLOEXEC)
                os.pread(self._events_fd, 1024, 0)
            except OSError:
                return None
        return Watch(self._events_fd, False, self._acknowledge)

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
        for probe in (*self._limits, self._usage, self._stat, self._pressure, self._events):
            if probe:
                probe.close()
        if self._events_fd >= 0:
            os.close(self._events_fd)
            self._events_fd = -1


class CgroupSource:
    """All memory cgroups that bound this process. `root`: the directory that holds proc and sys."""

    name = "cgroup"

    def __init__(self, root: str = "/") -> None:
        self._root = root
        self._mountinfo = Probe(os.path.join(root, "proc/self/mountinfo"))
        self._cgroup = Probe(os.path.join(root, "proc/self/cgroup"))
        self._seen: bytes | None = None
        self._refreshed = -1e9
        self._groups: list[Group] = []
        self._bounds: dict[str, Bound] = {}

    def _refresh(self, now: float) -> None:
        """Follow the process when it is moved to another group, and a group when it becomes a bound."""
        if now - self._refreshed < REFRESH_SECONDS:
            return
        self._refreshed = now
        self._find_groups()
        kept = {}
        for group in self._groups:
            bound = self._bounds.pop("cgroup " + group.path, None)
            if bound and bound.group != group:
                bound.close()
                bound = None
            if bound is None and Bound.exists(group):
                bound = Bound(group)
            if bound:
                kept[bound.name] = bound
        for bound in self._bounds.values():
            bound.close()
        self._bounds = kept

    def _find_groups(self) -> None:
        # The membership file is made at open: through an old descriptor a moved process would still see the
        # new group, but after a fork the child would see its parent's.
        self._cgroup.close()
        own = self._cgroup.read()
        gone = any(not os.path.isdir(group.directory) for group in self._groups)
        if own is None or (own == self._seen and not gone):
            return
        mountinfo = self._read_mountinfo()
        if mountinfo is None:
            return
        self._cgroup.recover()
        self._seen = own
        self._groups = groups(os.fsdecode(mountinfo), os.fsdecode(own), self._root)

    def _read_mountinfo(self) -> bytes | None:
        """The whole file: on hosts with many mounts it is larger than a probe reads."""
        try:
            with open(self._mountinfo.path, "rb") as file:
                text = file.read()
        except OSError as error:
            self._mountinfo.complain(error.strerror or str(error))
            return None
        self._mountinfo.recover()
        return text

    def read(self, now: float) -> Sequence[Reading]:
        self._refresh(now)
        result = []
        for bound in self._bounds.values():
            result += bound.read(now)
        return result

    def quick(self, last: Reading) -> Reading | None:
        bound = self._bounds.get(last.name)
        return bound.quick(last) if bound else None

    def watches(self) -> Sequence[Watch]:
        return [watch for bound in self._bounds.values() if (watch := bound.watch())]

    def close(self) -> None:
        for bound in self._bounds.values():
            bound.close()
        self._groups, self._bounds = [], {}
        self._seen, self._refreshed = None, -1e9
        self._cgroup.close()
        self._mountinfo.close()
