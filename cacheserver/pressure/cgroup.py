"""Bounds from memory cgroups, v1 and v2: this process's own group and every visible ancestor.

Knows: the files of the two memory controllers. Must not know: how a bound is judged (policy), who frees it.
Memory: each group owns its open probes; CgroupSource closes them.

A group counts as bounded only where it has both a finite limit and a usage; the v2 root has neither. A limit
set later on a group that had none is seen at the next full reading.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from cacheserver.pressure.mounts import Group, groups
from cacheserver.pressure.source import Probe, Reading, Watch, field, some_avg10

UNLIMITED_V1 = 1 << 62  # v1 writes "no limit" as 2^63 rounded down to pages; nothing real is near it
STALE_SECONDS = 5.0  # a bound that cannot be read counts with its last values this long, then it is left out
REFRESH_SECONDS = 1.0  # how often to look whether the process has been moved to another group


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
        self._last: Reading | None = None
        self._last_at = 0.0

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
                if index == 0:
                    return None
                continue
            if 0 <= value < UNLIMITED_V1 and (lowest < 0 or value < lowest):
                lowest = value
        return lowest

    def read(self, now: float) -> list[Reading]:
        """The group's bound, and that of the lowest limit above the visible tree where v1 tells of one."""
        limit = self.limit()
        if limit == -1 and not (self.group.hidden_above and self.group.version == 1):
            self._last = None
            return []
        usage = self._usage.number()
        if limit is None or usage is None:
            return self._stale(now)
        stat = self._stat.read()
        reclaimable = self._reclaimable(stat)
        result = []
        if limit >= 0:
            throttles, ooms = self._read_events()
            stall = some_avg10(self._pressure.read()) if self._pressure else 0.0
            reading = Reading(self.name, limit, usage, reclaimable, stall, throttles, ooms)
            self._last, self._last_at = reading, now
            result.append(reading)
        if self.group.hidden_above and stat and self.group.version == 1:
            # Of an ancestor outside the container only the limit shows, here; its usage is at least ours.
            above = field(stat, b"hierarchical_memory_limit ")
            if above is not None and above < UNLIMITED_V1 and not 0 <= limit <= above:
                result.append(Reading(f"cgroup above {self.group.path}", above, usage, reclaimable))
        return result

    def quick(self, last: Reading) -> Reading | None:
        """Limit and usage anew, the rest as it was."""
        limit = self.limit()
        usage = self._usage.number()
        if limit is None or limit < 0 or usage is None:
            return None
        return last._replace(limit=limit, usage=usage)

    def _stale(self, now: float) -> list[Reading]:
        if self._last is None or now - self._last_at > STALE_SECONDS:
            return []
        return [self._last._replace(stale=True)]

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
        self._bounds: dict[str, Bound] = {}

    def _refresh(self, now: float) -> None:
        """Follow the process when it is moved to another group."""
        if now - self._refreshed < REFRESH_SECONDS:
            return
        self._refreshed = now
        # The membership file is made at open: through an old descriptor a moved process would still see the
        # new group, but after a fork the child would see its parent's.
        self._cgroup.close()
        own = self._cgroup.read()
        gone = any(not os.path.isdir(bound.group.directory) for bound in self._bounds.values())
        if own is None or (own == self._seen and not gone):
            return
        mountinfo = self._read_mountinfo()
        if mountinfo is None:
            return
        self._cgroup.recover()
        self._seen = own
        found = groups(os.fsdecode(mountinfo), os.fsdecode(own), self._root)
        wanted = {bound.name: bound for bound in map(Bound, filter(Bound.exists, found))}
        for name, bound in self._bounds.items():
            if name in wanted and wanted[name].group == bound.group:
                wanted[name] = bound
            else:
                bound.close()
        self._bounds = wanted

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
        self._bounds = {}
        self._seen, self._refreshed = None, -1e9
        self._cgroup.close()
        self._mountinfo.close()
