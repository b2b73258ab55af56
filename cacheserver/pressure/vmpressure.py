"""What a cgroup of version 1 tells by itself: the level of memory pressure, and usage that crosses a mark.

Knows: cgroup.event_control and eventfd (kernel documentation, admin-guide/cgroup-v1/memory, sections 9 and
11). Must not know: what a level means to the policy. Memory: owns the eventfds; closing one takes the
registration back.

The kernel judges a level by what it could reclaim of the last 2 MiB it looked through (mm/vmpressure.c): low
is any reclaim at all, medium that 60 % could not be had, critical 95 %. In a group of anonymous memory
without swap all three come together, a moment before the OOM killer; beside page cache low comes early.
The marks come early in either case. They are two, near the point at which half of the reserve is gone: a
sudden neighbour then calls for a reading itself and need not be met by the next tick.
"""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Callable

from cacheserver.pressure.source import MARKED, Watch

# Only of reclaim for this very group's limit: what a neighbour does under its own limit is not ours to mind.
LEVELS = ("low", "medium", "critical")
MODE = "local"
# Of the limit left: half of the reserve of large limits and of the smallest (see policy). A cache at rest
# stays above both, so nothing comes from them until something happens.
MARKS = (MARKED, 0.03)


class _Notice:
    """One eventfd that the kernel adds to. `seen`: called for each event; its value is acknowledge's."""

    def __init__(self, stall: bool, seen: Callable[[], bool]) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._stall = stall
        self._seen = seen

    def watch(self) -> Watch:
        return Watch(self.fd, self._stall, self._acknowledge, select.POLLIN)

    def _acknowledge(self, _events: int) -> bool:
        if self.fd < 0:  # closed since it was handed out
            return False
        try:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self.fd)
        except OSError:
            return False
        return self._seen()

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class GroupNotices:
    """The notices of the group at `directory`. `problem`: why there are none, "" while there are."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._levels: list[_Notice] = []
        self._marks: list[_Notice] = []
        self._marked = -1  # the limit that the marks belong to
        self.problem = ""
        self.criticals = 0  # events of that level since the start

    def watches(self, limit: int) -> list[Watch]:
        """The descriptors to wait for. `limit`: the group's, in bytes; -1: none, then there are no marks."""
        try:
            if not self._levels:
                for level in LEVELS:
                    self._levels.append(self._register("memory.pressure_level", f"{level},{MODE}", level))
            if limit != self._marked:
                self._close_marks()
                for share in MARKS if limit > 0 else ():
                    at = str(limit - int(limit * share))
                    self._marks.append(self._register("memory.usage_in_bytes", at, "mark"))
                self._marked = limit
            self.problem = ""
        except FileNotFoundError:  # a kernel built without them
            self.close()
        except OSError as error:
            self.close()
            self.problem = f"{error.filename or self._directory}: {error.strerror or error}"
        return [notice.watch() for notice in (*self._levels, *self._marks)]

    def marked(self, limit: int) -> bool:
        """Whether the kernel tells by itself when usage passes the marks below `limit`, in bytes: not while
        they are those of another limit, as between a change of it and the next `watches`.
        """
        return bool(self._marks) and self._marked == limit

    def _register(self, file: str, argument: str, kind: str) -> _Notice:
        control = os.path.join(self._directory, "cgroup.event_control")
        # Any streaming through page cache is "low", many times a second: heard once a second it is enough.
        seen = {"low": lambda: False, "critical": self._count}.get(kind, lambda: True)
        notice = _Notice(kind in ("medium", "critical"), seen)
        subject = writer = -1
        try:
            subject = os.open(os.path.join(self._directory, file), os.O_RDONLY | os.O_CLOEXEC)
            writer = os.open(control, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(writer, f"{notice.fd} {subject} {argument}".encode())
            except OSError as error:
                error.filename = control
                raise
        except BaseException:
            notice.close()
            raise
        finally:
            for fd in (subject, writer):
                if fd >= 0:
                    os.close(fd)
        return notice

    def _count(self) -> bool:
        self.criticals += 1
        return True

    def _close_marks(self) -> None:
        for notice in self._marks:
            notice.close()
        self._marks = []
        self._marked = -1

    def close(self) -> None:
        self._close_marks()
        for notice in self._levels:
            notice.close()
        self._levels = []
